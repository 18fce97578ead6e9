"""``LLMSchedSmall-v0``: a batch queue whose best policy can be computed, on the same simulator (eval/optimum.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from llmsched_env.config import SLO, Server, SimConfig, check_number
from llmsched_env.core.view import observation
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from llmsched_env.options.declaration import check
from llmsched_env.options.kinds import Number
from llmsched_env.profiles import Profile

WORKLOAD = "fixed"
PROMPT, OUTPUT = 500, 101
"""Tokens of every request of that workload."""

PROFILE = Profile(
    name="small",
    form="split",
    coefficients={"d0": 29.5, "d1": 0.25, "d2": 0.0, "p0": 50.0, "p1": 0.0, "p2": 0.0},
    kv_tokens=float("inf"),
    meta={"source": "chosen round numbers near those of a 70B model on four GPUs", "measured": False},
)
"""A batch of b takes 3 s + 0.025 s x b: nearly all of it is a fixed price, so that waiting can pay."""

LOAD, MAX_BATCH, REQUESTS = 0.75, 4, 500
MOST_BATCH = 64

ANY = 1
"""Number of the choice `any` where there is one bin."""

_FREE, _WAITING = (observation.names(1).index(name) for name in ("free", "waiting"))


def service_s(max_batch: int = MAX_BATCH) -> NDArray[np.float64]:
    """Seconds that a batch of 1, 2, ..., ``max_batch`` takes: prefill and OUTPUT - 1 decode steps."""
    sizes = range(1, max_batch + 1)
    steps_ms = [(OUTPUT - 1) * PROFILE.decode_step_ms(b, b * (PROMPT + 0.5 * OUTPUT)) for b in sizes]
    return np.array([PROFILE.prefill_ms([PROMPT] * b) + ms for b, ms in zip(sizes, steps_ms, strict=True)]) / 1000.0


def arrival_rate(load: float = LOAD, max_batch: int = MAX_BATCH) -> float:
    """Requests/s at which a server that launches full batches only is busy for the share ``load`` of the time."""
    return load * max_batch / float(service_s(max_batch)[-1])


def simulation(max_batch: int = MAX_BATCH) -> SimConfig:
    """One server, one bin, no latency target."""
    return SimConfig(servers=(Server(PROFILE),), max_batch=max_batch, slos=(SLO(),))


def env_arguments(load: float, max_batch: int, requests: int) -> dict[str, Any]:
    """What LLMSched-v0 has to be made with."""
    check_number("load", load, 0.01, 0.99, remedy="From 1 on the queue has no average length.")
    check("max_batch", max_batch, Number(1, MOST_BATCH, whole=True))
    check("requests", requests, Number(1, 1e8, whole=True))
    return {
        "simulation": simulation(max_batch),
        "workload": WORKLOAD,
        "rate": arrival_rate(load, max_batch),
        "requests": requests,
        "predictor": "oracle",
        "bins": 1,
        "slo": {},
        "reward": {"miss": 0.0, "holding": float(requests), "tardiness": 0.0},
    }


def observation_space() -> spaces.Box:
    """Queue length and free server, both in [0, 1]."""
    return spaces.Box(0.0, 1.0, (2,), np.float32)


def small_image(image: NDArray[np.float32], max_batch: int) -> NDArray[np.float32]:
    """The two entries out of observations (..., size) of LLMSched-v0, where they are log2(1 + queue) / 20 and a share.

    A float32 holds every queue up to some thousands in this form exactly after rounding.
    """
    queue = np.rint(np.exp2(20.0 * image[..., _WAITING].astype(np.float64)) - 1.0)
    return np.stack([queue / (queue + max_batch), image[..., _FREE]], axis=-1).astype(np.float32)


def queue_length(image: NDArray[np.float32], max_batch: int = MAX_BATCH) -> NDArray[np.int64]:
    """The number of waiting requests behind observations (..., 2) of LLMSchedSmall-v0."""
    shown = image[..., 0].astype(np.float64)
    return np.rint(max_batch * shown / (1.0 - shown)).astype(np.int64)


TITLE = "LLMSchedSmall-v0"
"""What stands above its pictures."""


class LLMSchedSmallEnv(LLMSchedEnv):
    """The exact-optimum test bed: one queue, one server, requests that are all alike.  When to launch, and how many?

    ## Description
    Requests of equal length arrive in a Poisson stream.  A batch of b takes 3 + 0.025 b seconds, at most four fit.
    Launching at once leaves the server busy with a small batch while others queue up; waiting lets it stand idle.
    There is no deadline and no memory limit: what counts is the average number of requests in the system.

    The queue and the server are all there is to know: a semi-Markov decision process whose optimum
    `python eval/optimum.py` computes with an error bound.  With the default arguments it is 5.17341 requests in the
    system, and the best policy waits for three requests and then launches all that fit.  Never waiting costs 1.14 %
    more, waiting for full batches 2.46 %.  A learner that does not come near the optimum is broken.  The dynamics are
    those of LLMSched-v0, on the same simulator.

    ## Action Space
    `Discrete(max_batch + 1)`: 0 waits for the next arrival, b launches the b oldest requests (all, when fewer wait).
    `action_masks()` is True for the valid ones: all of them until the last request of the episode has arrived, then
    all but 0, which means `max_batch` there.

    ## Observation Space
    `Box(0, 1, (2,), float32)`

    | index | name | meaning | unit | scale |
    |---|---|---|---|---|
    | 0 | queue | requests waiting | requests | x / (x + max_batch) |
    | 1 | free | 1 when the server is free: at every decision | 0 or 1 | linear |

    ## Rewards
    Minus the integral over the time since the last decision of the number of requests in the system, in
    request-seconds.  So -(sum of rewards) / (sum of `info["elapsed_s"]`) is the average number in the system, and the
    return is minus the sum of all latencies.  Times between decisions differ: use a discount of 1, or one that is
    aware of `info["elapsed_s"]` (with another one always to wait looks best: its decisions are the shorter ones).

    ## Starting State
    An empty system at time 0; the first observation is at the first arrival.

    ## Episode End
    Termination: all `requests` were served.  Truncation: after `max_episode_steps` decisions.  As an episode begins
    and ends empty, its average is below that of a system that runs on: by 1.2 % with 500 requests, 0.35 % with 2000,
    0.1 % with 8000.  Short episodes are for learning (a queue that an untrained policy lets grow comes to an end),
    long ones for comparing with the optimum.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `load` | 0.75 | arrival rate x service time of a full batch / `max_batch` |
    | `max_batch` | 4 | largest batch |
    | `requests` | 500 | arrivals in an episode |

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("llmsched_env:LLMSchedSmall-v0", requests=100)
    >>> observation, info = env.reset(seed=1)
    >>> terminated, cost, time_s = False, 0.0, 0.0
    >>> while not terminated:
    ...     waiting = env.unwrapped.record["waiting"]
    ...     action = 0 if waiting < 3 else min(waiting, 4)
    ...     observation, reward, terminated, truncated, info = env.step(action)
    ...     cost, time_s = cost - reward, time_s + info["elapsed_s"]
    >>> 3 < cost / time_s < 7
    True

    ```

    ## Version History
    * v0: first version.
    """

    action_space: spaces.Discrete
    observation_space: spaces.Box

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        load: float = LOAD,
        max_batch: int = MAX_BATCH,
        requests: int = REQUESTS,
        max_episode_steps: int | None = None,
    ) -> None:
        arguments = env_arguments(load, max_batch, requests)
        super().__init__(render_mode, max_episode_steps=max_episode_steps, **arguments)
        self._lanes.title = TITLE
        self._max_batch = max_batch
        self.action_space = spaces.Discrete(max_batch + 1)
        self.observation_space = observation_space()

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions now, (max_batch + 1,)."""
        return super().action_masks()[ANY + 1 :]

    def sample_mask(self) -> NDArray[np.int8]:
        """Valid actions now, as ``action_space.sample(mask)`` takes them."""
        return self.action_masks().astype(np.int8)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[NDArray[np.float32], dict]:
        """Draw an episode and go to its first decision."""
        image, info = super().reset(seed=seed, options=options)
        return small_image(image, self._max_batch), info

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict]:
        """Launch ``action`` requests (0: none) and go to the next decision."""
        if not np.isscalar(action) and np.ndim(action) != 0:
            raise gym.error.InvalidAction(f"action {action!r} is not in {self.action_space}: give one number.")
        image, reward, terminated, truncated, info = super().step((ANY, action))
        return small_image(image, self._max_batch), reward, terminated, truncated, info


class LLMSchedSmallVectorEnv(LLMSchedVectorEnv):
    """N lanes of ``LLMSchedSmall-v0`` in one call of the kernel (see LLMSchedSmallEnv and LLMSchedVectorEnv)."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        load: float = LOAD,
        max_batch: int = MAX_BATCH,
        requests: int = REQUESTS,
    ) -> None:
        super().__init__(
            num_envs,
            threads=threads,
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
            **env_arguments(load, max_batch, requests),
        )
        self._lanes.title = TITLE
        self._max_batch = max_batch
        self.single_action_space = spaces.Discrete(max_batch + 1)
        self.single_observation_space = observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions of every lane, (N, max_batch + 1)."""
        return super().action_masks()[:, ANY + 1 :]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict | None = None
    ) -> tuple[NDArray[np.float32], dict]:
        """Reset all lanes, or those of ``options["reset_mask"]``; lane i gets ``seed + i`` or ``seed[i]``."""
        image, info = super().reset(seed=seed, options=options)
        return small_image(image, self._max_batch), info

    def step(self, actions: Any) -> tuple[NDArray[np.float32], NDArray, NDArray[np.bool_], NDArray[np.bool_], dict]:
        """One decision in every lane; ``actions`` (N,)."""
        sizes = np.asarray(actions)
        if sizes.shape != (self.num_envs,):
            raise gym.error.InvalidAction(f"actions of shape {sizes.shape}: give one number per environment.")
        pairs = np.stack([np.full_like(sizes, ANY), sizes], axis=1)
        image, reward, terminated, truncated, info = super().step(pairs)
        if "final_obs" in info:
            for i in np.flatnonzero(info["_final_obs"]).tolist():
                info["final_obs"][i] = small_image(info["final_obs"][i], self._max_batch)
        return small_image(image, self._max_batch), reward, terminated, truncated, info
