"""``LLMSchedRouter-v0``: which server an arriving request is sent to, scalar and vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmsched_env.compiler.addresses import addresses
from llmsched_env.core import layout
from llmsched_env.core.state import records
from llmsched_env.core.view import route_view
from llmsched_env.envs.continuous import continuous_options
from llmsched_env.envs.lanes import Lanes
from llmsched_env.envs.manual import filled
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv

ROUTER_DEFAULTS = {"rate": 30.0, "shared_prefix": "600:4000:1"}
"""What differs from LLMSchedContinuous-v0: prompts share more text than one server can keep."""

OTHERS = {"routing": "asked", "action": "multidiscrete", "refusals": "off"}
"""Arguments that have one value here."""


class RouterLanes(Lanes):
    """N lanes that are asked for a server at every arrival."""

    discrete = True

    def _make_rows(self, lanes: int, threads: int) -> None:
        if not self.engine.routes or self.config.continuous.routing != "asked":
            raise ValueError("a router needs engine='continuous' and continuous.routing='asked' in its simulation.")
        self.record = [records(np.zeros(1, layout.ROUTE_RECORD)) for _ in range(threads)]
        self.valid = np.ones((lanes, len(self.config.servers)), np.int8)

    @property
    def action_sizes(self) -> list[int]:
        """One part: the servers."""
        return [len(self.config.servers)]

    @property
    def action_space(self) -> Any:
        """A server."""
        return spaces.Discrete(len(self.config.servers))

    @property
    def observation_space(self) -> Any:
        """Box (size,) float32: everything lies in [0, 1]."""
        return spaces.Box(0.0, 1.0, (route_view.size(len(self.config.servers)),), np.float32)

    @property
    def _entry(self) -> Any:
        return self.engine.route_lanes[0]

    def _arguments(self, part: int, low: int, high: int) -> tuple[Any, ...]:
        own = (self.record[part], self.actions, self.mode, self.outcome, self.image, self.valid)
        return addresses((*self.simulator.arrays, *own), self.engine.route_lanes[1]), float(self.scale_s), low, high

    def masks(self) -> NDArray[np.bool_]:
        """Valid servers of every lane, (N, servers) bool."""
        return self.valid.astype(bool)


class LLMSchedRouterEnv(LLMSchedEnv):
    """Routing for LLM inference: which server an arriving request is sent to.

    ## Description
    Every server has queues of its own and serves by itself, as a vLLM behind a gateway does: first come, first served,
    iteration by iteration, with a prefix cache.  At every arrival the agent names the server.  A server that holds the
    beginning of the prompt in its cache skips that part of the prefill; a server with a long queue makes the request
    wait.  Both matter, and the loads may be old (`load_age_s`), as metrics that a gateway scrapes are.

    The dynamics are those of LLMSchedContinuous-v0 and of `eval/compare.py --routing`, to the bit; every rule is in
    docs/reference/continuous.md and docs/reference/routing.md.

    ## Action Space
    `Discrete(servers)`: the server.  Where its KV memory cannot hold the prompt the request goes to the next server by
    number that can, which is counted in `info["empty_choices"]`; `env.unwrapped.action_masks()` masks such servers.

    ## Observation Space
    `Box`, float32, 6 + 6 servers entries in [0, 1].  T is the deadline of the SLO (the smaller of the TTFT and E2E
    targets; 30 s where there is none).  First what exists once:

    {ROUTED_REQUEST}

    then the same six entries for every server, beginning at 6 + 6 server:

    {ROUTED_SERVER}

    The exact numbers behind it are in `env.unwrapped.record` (docs/reference/routing.md).

    ## Rewards, Episode End, Information
    As in LLMSchedContinuous-v0, from one arrival to the next.

    ## Starting State
    Empty servers with empty caches; the first observation is at the first arrival.

    ## Rendering
    As in LLMSchedContinuous-v0.

    ## Arguments
    As in LLMSchedContinuous-v0, with `rate=30.0` and `shared_prefix="600:4000:1"` as defaults: prompts begin with one
    of 600 texts of 4,000 tokens, some of them often (Zipf), more than the cache of one server can keep.  `routing`,
    `action` and `refusals` have one value here.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("llmsched_env:LLMSchedRouter-v0", requests=200)
    >>> observation, info = env.reset(seed=1)
    >>> terminated = truncated = False
    >>> while not (terminated or truncated):
    ...     record = env.unwrapped.record
    ...     action = int(record["cached"][:4].argmax())  # prefix affinity, and nothing else
    ...     observation, reward, terminated, truncated, info = env.step(action)
    >>> info["episode_metrics"]["completed"]
    200

    ```

    ## Version History
    * v0: first version.
    """

    LANES = RouterLanes

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(render_mode, **router_options(options))


LLMSchedRouterEnv.__doc__ = filled(LLMSchedRouterEnv.__doc__)


class LLMSchedRouterVectorEnv(LLMSchedVectorEnv):
    """N lanes of LLMSchedRouter-v0 in one call of the compiled kernel; arguments as of LLMSchedVectorEnv."""

    LANES = RouterLanes

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        super().__init__(num_envs, **router_options(options))


def router_options(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` over the defaults of a router; what has one value here is refused."""
    for name, value in OTHERS.items():
        if options.get(name, value) != value:
            raise ValueError(f"{name}={options[name]!r} is not allowed in LLMSchedRouter-v0: drop it.")
    return continuous_options({**ROUTER_DEFAULTS, **options, "routing": "asked"})
