"""``LLMSchedContinuous-v0``: the same environment over the engine `continuous`, scalar and vector."""

from __future__ import annotations

from typing import Any

from llmsched_env.envs.manual import filled
from llmsched_env.envs.options import CONTINUOUS_DEFAULTS
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from llmsched_env.options.presets import against_cache, ruled
from llmsched_env.options.table import OPTIONS, default
from llmsched_env.servers import parse_servers


class LLMSchedContinuousEnv(LLMSchedEnv):
    """Continuous batching for LLM inference: which requests join a server's running set, and how large it may grow.

    ## Description
    Requests arrive at a cluster of GPU servers as in LLMSched-v0, but servers run iteration by iteration, as Orca, vLLM
    and Sarathi do: at every iteration each member of a server's running set gets its next token, members that have
    their last one leave, and requests may join.  A larger set uses the GPU better and gives every member its tokens
    more slowly; a prompt that joins slows the iteration down for everyone; a set that outgrows the KV memory loses its
    newest members, which have to be recomputed.

    A server is asked at its first iteration boundary after something happened (an arrival, a completion, a
    preemption, the end of a prefill), if something waits and it has a free slot: from which bin are requests
    admitted, and up to how many members?  Every rule is in docs/reference/continuous.md; the dynamics are those of
    `eval/compare.py --engine continuous`, to the bit.

    ## Action Space
    As in LLMSched-v0 (`multidiscrete` or `ladder`), with another meaning of the size:

    | part | values | meaning |
    |---|---|---|
    | 0 | 0 ... max_bins - 1, max_bins | admit from this bin, or from all as one queue (`any`) |
    | 0 | max_bins + 1 | admit from the overdue queue; this value exists only with `overdue_factor` |
    | 1 | 0 | wait: this server admits none before the next event |
    | 1 | 1 ... max_batch | cap on the running set, present members included: at or below their number none joins |

    If a request was admitted, the server is asked again at the same instant while something waits and it has a free
    slot.

    ## Observation Space
    The entries of LLMSched-v0, then four about the asked server, which has 24 + 13 (max_bins + 1) in all:

    {RUNNING}

    With `prefix_cache="on"` three more:

    {CACHED}

    A server is `free` when it has no members; `busy` is the predicted time until a member is done, on average;
    `batch_time` is what the head would take if it joined now; `last_service` is the time in service of the last
    completed request; `tau`, `low` and `high` belong to the asked server.

    ## Rewards
    As in LLMSched-v0.  The default targets are TTFT <= 2 s and TPOT <= 100 ms; T is 2 s.

    ## Starting State, Episode End, Information, Rendering
    As in LLMSched-v0.

    ## Arguments
    As in LLMSched-v0, with `engine="continuous"`, `rate=45.0`, `requests=2000`, `slo={"ttft": 1000, "tpot": 20}`
    and `rules="vllm-0.32"` as defaults.  The rules set `prefill`, `scheduling`, `admission`, `watermark`,
    `prefix_cache`, and by the GPU `max_batch` (1,024 on the default one) and `token_budget`; with `rules="own"`
    `max_batch` is 256.
    Profiles of the form `batch-length` have no iterations and are refused.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("llmsched_env:LLMSchedContinuous-v0", servers=2, rate=4.0, requests=500)
    >>> observation, info = env.reset(seed=1)
    >>> terminated = truncated = False
    >>> while not (terminated or truncated):
    ...     action = env.action_space.sample(env.unwrapped.sample_mask())
    ...     observation, reward, terminated, truncated, info = env.step(action)
    >>> info["episode_metrics"]["completed"]
    500

    ```

    ## Version History
    * v0: first version.
    """

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(render_mode, **continuous_options(options))


LLMSchedContinuousEnv.__doc__ = filled(LLMSchedContinuousEnv.__doc__)


class LLMSchedContinuousVectorEnv(LLMSchedVectorEnv):
    """N lanes of LLMSchedContinuous-v0 in one call of the compiled kernel; arguments as of LLMSchedVectorEnv."""

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        super().__init__(num_envs, **continuous_options(options))


def continuous_options(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` over the defaults of the engine `continuous`; another engine is refused."""
    if options.get("engine", "continuous") != "continuous":
        raise ValueError(f"engine={options['engine']!r} is not allowed here: make LLMSched-v0 for it.")
    rules = options.get("rules", CONTINUOUS_DEFAULTS["rules"])
    OPTIONS["rules"].check_argument(rules)
    own = {name: value for name, value in CONTINUOUS_DEFAULTS.items() if name not in ruled(rules)}
    if "rules" not in options and not _cache_possible(options):
        own["prefix_cache"] = "off"
    return {**own, **options}


def _cache_possible(options: dict[str, Any]) -> bool:
    """Whether rules that nobody asked for can have a prefix cache; what is not allowed is refused elsewhere."""
    profile = options.get("profile", default("profile"))
    discipline = options.get("discipline", default("discipline"))
    servers = parse_servers(profile, kv_tokens=options.get("kv_tokens")) if isinstance(profile, str) else ()
    return not against_cache((server.eta for server in servers), discipline)
