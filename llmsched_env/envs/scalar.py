"""``LLMSched-v0``: one lane of the compiled simulator behind the Gymnasium interface."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core import layout
from llmsched_env.envs.episode_metrics import episode_metrics
from llmsched_env.envs.lanes import Lanes
from llmsched_env.envs.manual import filled
from llmsched_env.envs.options import EnvOptions, check_whole, parse_options
from llmsched_env.envs.render import CLEAR, draw_ansi, draw_rgb


class LLMSchedEnv(gym.Env):
    """Batch scheduling for LLM inference: choose which bin a free server serves next, and how large a batch.

    ## Description
    Requests arrive at a cluster of GPU servers.  Each has a prompt length that is known and an output length that is
    not; a noisy prediction of it sorts the request into one of K bins.  Whenever a server is free and something
    waits, the agent is asked: which bin, and up to how many of its requests form the next batch?

    A batch runs to completion.  Its members are prefilled together, decode in step until the longest is done, and are
    released together.  So mixing long and short requests wastes time, small batches waste throughput, and large or
    late ones miss latency targets.  KV memory bounds every batch; a batch that outgrows it loses its latest members,
    which have to be recomputed.  The dynamics are those of `eval/compare.py`, to the bit; every rule is in
    docs/reference/semantics.md.

    ## Action Space
    `action="multidiscrete"` (default): `MultiDiscrete([max_bins + 1, max_batch + 1])`

    | part | values | meaning |
    |---|---|---|
    | 0 | 0 ... max_bins - 1 | serve this bin |
    | 0 | max_bins | `any`: serve all bins as one queue |
    | 0 | max_bins + 1 | the overdue queue; this value exists only with `overdue_factor` |
    | 1 | 0 | wait: start nothing before the next event |
    | 1 | 1 ... max_batch | size of the batch, at most (memory may admit fewer) |
    | 1 | max_batch + 1 | refuse the first request of the choice; this value exists only with `refusals="on"` |

    `action="ladder"`: `Discrete(1 + (max_bins + 1) * rungs)`, for learners of one discrete choice

    | action | meaning |
    |---|---|
    | 0 | wait |
    | 1 + rungs * choice + rung | serve bin `choice` (as above); size 1, 2, 4, ..., max_batch, the target, and with \
`refusals="on"` last: refuse the first request |

    The target is what the batch-size controllers of that bin propose (docs/reference/semantics.md).

    `env.unwrapped.action_masks()` tells the valid actions as MaskablePPO reads them (for MultiDiscrete both parts side
    by side), `env.unwrapped.sample_mask()` as `action_space.sample(mask)` does.  Masked are empty bins, bins that do
    not exist, the overdue queue while other requests wait, and waiting where no event can come.  Chosen all the same,
    a bin that is empty or does not exist means `any` and is counted in `info`, so does an empty overdue queue; one that
    is not empty is served; and waiting means (`any`, `max_batch`).

    ## Observation Space
    `Box`, float32, of one layout for any number of servers and for any number of bins up to `max_bins`:
    20 + 13 (max_bins + 1) entries, all in [0, 1] but the slacks, which are in [-1, 1].  T is the deadline of the
    SLO (the smaller of the TTFT and E2E targets; 30 s where there is none).  First what exists once:

    {GLOBAL}

    then the same thirteen entries for every bin, beginning at 20 + 13 bin, and for `any`, beginning at 20 + 13 max_bins
    (a bin that does not exist is all 0); with `overdue_factor` thirteen more for the overdue queue:

    {PER_BIN}

    Times and lengths of outputs are predictions: nothing that a real scheduler could not know is shown.  The exact
    numbers behind the image are in `env.unwrapped.record` (docs/reference/policies.md).

    ## Rewards
    The sum of three terms times their weights, each accrued over the time since the last decision and divided by N,
    the number of requests of the episode:

    | term | meaning | default weight |
    |---|---|---|
    | `miss` | - requests that miss their SLO, once each: at the deadline, rejection, drop, or completion (TPOT) | 1 |
    | `holding` | - integral of the requests in the system, s: the sum is minus the mean latency (Little) | 0.01 |
    | `tardiness` | - integral of the requests in the system past their deadline, s: a miss that keeps costing | 0 |

    So with the default weights the return is - (share of misses) - 0.01 (mean latency in s).  Rewards accrue with
    time, and steps do not take equal times: use a discount of 1, or one that is aware of `info["elapsed_s"]`.

    ## Starting State
    An empty system at time 0 and the first arrival ahead; the first observation is at the first decision.  The seed of
    `reset` alone decides arrivals, lengths and predictions; `reset` without a seed goes on to the next episode of the
    series.  `reset(options={"requests": requests})` plays requests of your own (`llmsched_env.requests.Requests`).

    ## Episode End
    1. Termination: every request of the episode was completed, rejected, dropped, refused or abandoned.
    2. Truncation: the clock reached `duration_s`.  Nothing extra is charged.  Where fewer than `requests` come before
       it (or `requests` is None) the arrivals would have gone on, so the episode lasts until then even if nothing is
       left to do.
    3. Truncation: `max_episode_steps` decisions were made.

    ## Information
    | key | meaning |
    |---|---|
    | `time_s` | the clock (also after `reset`) |
    | `elapsed_s` | time since the last decision, s |
    | `reward_terms` | the terms by name, unweighted |
    | `empty_choices` | choices of an empty bin in this step |
    | `episode_metrics` | at the end: `completed`, `rejected`, `dropped`, `unfinished`, `preempted`, `decisions`, with \
refusals or patience `refused` and `abandoned`, \
`slo_attainment` (unfinished ones are misses), `mean_e2e_s` (time in the system so far) |

    The limit of `gym.make(..., max_episode_steps=...)` is a wrapper, of which the environment does not know: there,
    `env.unwrapped.episode_metrics()` has the metrics of the episode so far.

    ## Arguments
    {ARGUMENTS}

    Lengths are in tokens, `rate` in requests/s, targets of `slo` in ms.  An argument that is not allowed is refused
    with a `ValueError` that says what is.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("llmsched_env:LLMSched-v0", servers=2, slo={"e2el": 20_000})
    >>> observation, info = env.reset(seed=1)
    >>> terminated = truncated = False
    >>> while not (terminated or truncated):
    ...     action = env.action_space.sample(env.unwrapped.sample_mask())
    ...     observation, reward, terminated, truncated, info = env.step(action)
    >>> info["episode_metrics"]["completed"]
    500

    ```

    ## Rendering
    `render_mode="rgb_array"` draws queues, servers and misses of the last two minutes: a batch is as wide as the time
    it took, coloured where members still generate tokens and faint where they only wait for the longest.
    `human` prints text to the terminal, `ansi` returns it.  `env.unwrapped.picture(at_s)` draws any earlier instant.

    ## Vectorized environment
    `gym.make_vec("llmsched_env:LLMSched-v0", num_envs=N)` steps N lanes in one call of the compiled kernel; lane i
    equals the scalar environment seeded with seed + i, bit for bit.  It takes the same arguments, and:

    | argument | meaning |
    |---|---|
    | `autoreset_mode` | what happens to a lane whose episode has ended (`gymnasium.vector.AutoresetMode`): |
    | `NEXT_STEP` (default) | the next `step` resets it, ignores its action and gives reward 0 |
    | `SAME_STEP` | it is reset at once; its last words are in `infos["final_obs"]` and `infos["final_info"]` |
    | `DISABLED` | it waits for `reset(options={"reset_mask": mask})`, (N,) bool; the other lanes stay as they are |
    | `threads` | cores to step on (1); results do not depend on it |

    `envs.unwrapped.action_masks()` has the valid actions of every lane, (N, actions) bool.  Infos are arrays of length
    N with masks (`infos["_episode_metrics"]` tells whose episode has ended).  For Stable-Baselines3 there is
    `llmsched.train.sb3_vec_env.make_sb3_vec_env(N)`.

    ```python
    >>> envs = gym.make_vec("llmsched_env:LLMSched-v0", num_envs=8, requests=100)
    >>> observations, infos = envs.reset(seed=1)
    >>> observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    >>> rewards.shape
    (8,)

    ```

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": ["human", "ansi", "rgb_array"], "render_fps": 10}
    LANES: type[Lanes] = Lanes

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        max_episode_steps: int | None = None,
        simulation: SimConfig | None = None,
        **options: Any,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode={render_mode!r} is not known: choose one of human, ansi, rgb_array.")
        self.options: EnvOptions = parse_options(options)
        self.render_mode = render_mode
        self.max_episode_steps = check_steps(max_episode_steps)
        check_simulation(simulation)
        self._lanes = self.LANES(self.options, 1, log=render_mode is not None, config=simulation)
        self._discrete = self._lanes.discrete
        self.action_space = self._lanes.action_space
        self.observation_space = self._lanes.observation_space
        self._choices, self._sizes = [*self._lanes.action_sizes, 1][:2]
        self._weights = self.options.weights
        self._connect()
        self._steps = 0
        self._ready = False

    def _connect(self) -> None:
        self._answer = memoryview(self._lanes.actions.reshape(2).data)  # the fastest way into the kernel's row

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_answer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    @property
    def config(self) -> SimConfig:
        """What is simulated."""
        return self._lanes.config

    @property
    def record(self) -> np.void:
        """The decision record (layout.RECORD): what a scheduler may know, in exact numbers."""
        return self._lanes.record[0][0]

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions now, as MaskablePPO reads them (see Action Space)."""
        return self._lanes.masks()[0]

    def sample_mask(self) -> Any:
        """Valid actions now, as ``action_space.sample(mask)`` takes them."""
        mask = self.action_masks().astype(np.int8)
        if self._discrete:
            return mask
        return mask[: self._choices], mask[self._choices :]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[NDArray[np.float32], dict]:
        """Draw an episode and go to its first decision; ``options`` may hold ``requests``: own Requests for it."""
        super().reset(seed=seed)
        lanes = self._lanes
        lanes.start(0, self.np_random, seeded=seed is not None, requests=(options or {}).get("requests"))
        lanes.run()
        lanes.mode[0] = layout.STEP
        self._steps = 0
        self._ready = True
        if self.render_mode == "human":
            self.render()
        return lanes.image[0].copy(), {"time_s": float(lanes.simulator.lane[0]["now"])}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict]:
        """Carry out one decision and go to the next."""
        lanes = self._lanes
        if not self._ready:
            raise gym.error.ResetNeeded("step() before reset(), or after the end of the episode: call reset() first.")
        self._answer[0], self._answer[1] = self._checked(action)
        self._steps += 1
        lanes.run()
        status, miss, holding, tardiness, elapsed_s, time_s, empty_choices = lanes.outcome.item(0)
        terminated = status == layout.DRAINED
        truncated = status == layout.HORIZON
        if not terminated and self.max_episode_steps is not None:
            truncated = truncated or self._steps >= self.max_episode_steps
        weights = self._weights
        info: dict[str, Any] = {
            "reward_terms": {"miss": miss, "holding": holding, "tardiness": tardiness},
            "elapsed_s": elapsed_s,
            "time_s": time_s,
            "empty_choices": empty_choices,
        }
        if terminated or truncated:
            self._ready = False
            info["episode_metrics"] = self.episode_metrics()
        if self.render_mode == "human":
            self.render()
        reward = weights["miss"] * miss + weights["holding"] * holding + weights["tardiness"] * tardiness
        return lanes.image[0].copy(), reward, terminated, truncated, info

    def episode_metrics(self) -> dict[str, float | int]:
        """The metrics of the episode up to now (see Information)."""
        return {name: column.item() for name, column in episode_metrics(self._lanes, [0]).items()}

    def _checked(self, action: Any) -> tuple[int, int]:
        """The action as the kernel's row takes it; ``InvalidAction`` when it is not in the action space."""
        plain = action.tolist() if isinstance(action, (np.ndarray, np.generic)) else action
        try:
            if self._discrete:
                if 0 <= plain < self._choices and plain == int(plain):
                    return int(plain), 0
            else:
                choice, size = plain
                if 0 <= choice < self._choices and 0 <= size < self._sizes:
                    whole = int(choice), int(size)
                    if whole == (choice, size):
                        return whole
        except (TypeError, ValueError):
            pass
        raise gym.error.InvalidAction(f"action {action!r} is not in {self.action_space}: see its docstring.")

    def render(self) -> Any:
        """Draw the last two minutes: queues by bin, batches on servers, misses (see render_mode)."""
        if self.render_mode is None:
            gym.logger.warn("nothing is drawn without a render mode: make the environment with render_mode=...")
            return None
        if self._lanes.simulator.lane["loaded"][0] == 0:
            raise gym.error.ResetNeeded("render() before reset(): call reset() first.")
        if self.render_mode == "ansi":
            return draw_ansi(self._lanes)
        if self.render_mode == "rgb_array":
            return draw_rgb(self._lanes)
        print(CLEAR + draw_ansi(self._lanes, colour=True), flush=True)
        return None

    def picture(self, at_s: float | None = None, **size: Any) -> NDArray[np.uint8]:
        """What ``render`` draws, at an instant up to now; needs a render mode.  ``size``: width, height, title."""
        if self.render_mode is None:
            raise gym.error.Error('picture() needs what was logged: make the environment with render_mode="rgb_array".')
        return draw_rgb(self._lanes, at_s=at_s, **size)

    def close(self) -> None:
        """Release what the environment holds; may be called twice."""
        self._lanes.close()


LLMSchedEnv.__doc__ = filled(LLMSchedEnv.__doc__)


def check_simulation(simulation: SimConfig | None) -> None:
    """``ValueError`` unless it is a SimConfig, or None."""
    if simulation is not None and not isinstance(simulation, SimConfig):
        raise ValueError(f"simulation={simulation!r} is not allowed: give a config.SimConfig, or None.")


def check_steps(steps: int | None) -> int | None:
    """``max_episode_steps``, or ``ValueError``."""
    if steps is not None:
        check_whole("max_episode_steps", steps)
    return steps
