"""``LLMSched-v0`` as a native vector environment: N lanes in one call of the compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core import layout
from llmsched_env.envs.episode_metrics import episode_metrics
from llmsched_env.envs.lanes import Lanes
from llmsched_env.envs.options import check_whole, parse_options
from llmsched_env.envs.render import CLEAR, draw_ansi, draw_rgb
from llmsched_env.envs.scalar import LLMSchedEnv, check_simulation, check_steps
from llmsched_env.simulation.memory import check_memory

MOST_THREADS = 1024
TERMS = ("miss", "holding", "tardiness")


class LLMSchedVectorEnv(VectorEnv):
    """N lanes of ``LLMSched-v0`` (see env.LLMSchedEnv for spaces, rewards and options).

    Lane i equals the scalar environment seeded with seed + i, bit for bit, through episode ends, whatever the number
    of lanes and ``threads``.  Info holds arrays with masks, as Gymnasium's vector environments give them;
    ``final_obs`` and ``final_info`` come with SAME_STEP.
    """

    metadata = {**LLMSchedEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
    LANES: type[Lanes] = Lanes

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        simulation: SimConfig | None = None,
        **options: Any,
    ) -> None:
        check_whole("num_envs", num_envs)
        check_whole("threads", threads)
        if threads > MOST_THREADS:
            raise ValueError(f"threads={threads} is not allowed: give at most {MOST_THREADS}.")
        check_simulation(simulation)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode={render_mode!r} is not known: choose one of human, ansi, rgb_array.")
        check_memory(f"num_envs={num_envs:,}", num_envs * 5_000.0)
        self.num_envs = num_envs
        self.options = parse_options(options)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.max_episode_steps = check_steps(max_episode_steps)
        self.render_mode = render_mode
        self._lanes = self.LANES(
            self.options, num_envs, threads=min(threads, num_envs), log=render_mode is not None, config=simulation
        )
        lanes = self._lanes
        self.single_action_space = lanes.action_space
        self.single_observation_space = lanes.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._sizes = np.array(lanes.action_sizes)
        drawn = [gym.utils.seeding.np_random() for _ in range(num_envs)]
        self._rngs, self._seeds = [rng for rng, _ in drawn], [seed for _, seed in drawn]
        self._over = np.ones(num_envs, bool)  # episodes that have ended and wait for their reset
        self._ready = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict | None = None
    ) -> tuple[NDArray[np.float32], dict]:
        """Reset all lanes, or those of ``options["reset_mask"]`` (N,) bool; lane i gets ``seed + i`` or ``seed[i]``."""
        mask = np.ones(self.num_envs, bool)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
                raise ValueError(f"reset_mask must hold {self.num_envs} bools, at least one of them True.")
        seeds: list[int | None] = [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        elif seed is not None:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments: give one each, or one number.")
        lanes = self._lanes
        lanes.mode[:] = layout.SKIP
        for i in np.flatnonzero(mask).tolist():
            if seeds[i] is not None:
                self._rngs[i], self._seeds[i] = gym.utils.seeding.np_random(seeds[i])
            lanes.start(i, self._rngs[i], seeded=seeds[i] is not None, requests=(options or {}).get("requests"))
        lanes.run()
        self._over[mask] = False
        self._ready = True
        return lanes.image.copy(), {"time_s": lanes.outcome["time_s"] * mask, "_time_s": mask.copy()}

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the lanes."""
        return tuple(self._rngs)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of the lanes: ``(7, 8, 9)`` after ``reset(seed=7)`` of three."""
        return tuple(self._seeds)

    def step(self, actions: Any) -> tuple[NDArray[np.float32], NDArray, NDArray[np.bool_], NDArray[np.bool_], dict]:
        """One decision in every lane; a lane whose episode has ended is reset as ``autoreset_mode`` says."""
        if not self._ready:
            raise gym.error.ResetNeeded("step() before reset(): call reset() first.")
        lanes, starting = self._lanes, self._over
        if starting.any() and self.autoreset_mode == AutoresetMode.DISABLED:
            raise gym.error.ResetNeeded(
                f"environment {int(np.argmax(starting))} has ended: reset it with options={{'reset_mask': ...}}."
            )
        self._take(actions)
        lanes.mode[:] = layout.STEP
        if starting.any():
            for i in np.flatnonzero(starting).tolist():
                lanes.start(i, self._rngs[i], seeded=False)
        lanes.steps += ~starting
        lanes.run()
        outcome = lanes.outcome
        terminated = (outcome["status"] == layout.DRAINED) & ~starting
        truncated = (outcome["status"] == layout.HORIZON) & ~starting
        if self.max_episode_steps is not None:
            truncated |= (lanes.steps >= self.max_episode_steps) & ~terminated & ~starting
        reward = self._reward() * ~starting
        over = terminated | truncated
        if over.any() and self.autoreset_mode == AutoresetMode.SAME_STEP:
            info = self._restart(over)
        else:
            self._over = over
            info = self._info(~starting)
            if over.any():
                info |= self._metrics(over)
        info["time_s"], info["_time_s"] = lanes.outcome["time_s"].copy(), np.ones(self.num_envs, bool)
        return lanes.image.copy(), reward, terminated, truncated, info

    def _take(self, actions: Any) -> None:
        """Check the actions (N,) or (N, 2) and put them into the lanes."""
        array, lanes = np.asarray(actions), self._lanes
        wanted = (self.num_envs,) if lanes.discrete else (self.num_envs, 2)
        if array.shape != wanted or array.dtype.kind not in "iu":
            raise gym.error.InvalidAction(
                f"actions of shape {array.shape} and type {array.dtype}: give integers of shape {wanted}."
            )
        sizes = self._sizes
        bad = (array.reshape(self.num_envs, -1) < 0) | (array.reshape(self.num_envs, -1) >= sizes)
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            raise gym.error.InvalidAction(f"action {array[row]!r} of environment {row} is not in its action space.")
        if lanes.discrete:
            lanes.actions[:, 0] = array
        else:
            lanes.actions[:] = array

    def _reward(self) -> NDArray[np.float64]:
        outcome, weights = self._lanes.outcome, self.options.weights
        return (
            weights["miss"] * outcome["miss"]
            + weights["holding"] * outcome["holding"]
            + weights["tardiness"] * outcome["tardiness"]
        )

    def _info(self, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        """What the step of the ``chosen`` lanes says of itself, as arrays with masks; 0 for the others."""
        if not chosen.any():
            return {}
        outcome = self._lanes.outcome
        terms: dict[str, Any] = {}
        for name in TERMS:
            terms[name], terms[f"_{name}"] = outcome[name] * chosen, chosen.copy()
        info: dict[str, Any] = {"reward_terms": terms, "_reward_terms": chosen.copy()}
        for name in ("elapsed_s", "empty_choices"):
            info[name], info[f"_{name}"] = outcome[name] * chosen, chosen.copy()
        return info

    def _metrics(self, over: NDArray[np.bool_]) -> dict[str, Any]:
        """The metrics of the episodes that have just ended."""
        columns: dict[str, Any] = {}
        for name, values in episode_metrics(self._lanes, np.flatnonzero(over).tolist()).items():
            columns[name] = np.zeros(self.num_envs, values.dtype)
            columns[name][over] = values
            columns[f"_{name}"] = over.copy()
        return {"episode_metrics": columns, "_episode_metrics": over.copy()}

    def _restart(self, over: NDArray[np.bool_]) -> dict[str, Any]:
        """SAME_STEP: keep the last words of the episodes that have just ended and start the next ones."""
        lanes = self._lanes
        final_info = self._info(over) | self._metrics(over)
        final_info["time_s"], final_info["_time_s"] = lanes.outcome["time_s"] * over, over.copy()
        final_obs = np.full(self.num_envs, None, dtype=object)
        lanes.mode[:] = layout.SKIP
        for i in np.flatnonzero(over).tolist():
            final_obs[i] = lanes.image[i].copy()
            lanes.start(i, self._rngs[i], seeded=False)
        info = self._info(~over)
        info["final_obs"], info["_final_obs"] = final_obs, over.copy()
        info["final_info"], info["_final_info"] = final_info, over.copy()
        lanes.run()
        self._over = np.zeros(self.num_envs, bool)
        return info

    def render(self) -> tuple[Any, ...] | None:
        """A picture, or text, of every lane; `human` prints the first."""
        if self.render_mode is None or not self._ready:
            raise gym.error.ResetNeeded("render() needs a render_mode given to the constructor, and a reset().")
        if self.render_mode == "rgb_array":
            return tuple(draw_rgb(self._lanes, i) for i in range(self.num_envs))
        if self.render_mode == "ansi":
            return tuple(draw_ansi(self._lanes, i) for i in range(self.num_envs))
        print(CLEAR + draw_ansi(self._lanes, colour=True), flush=True)
        return None

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions of every lane, (N, actions) bool (see LLMSchedEnv.action_masks)."""
        return self._lanes.masks()

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads, where the constructor came so far."""
        if hasattr(self, "_lanes"):
            self._lanes.close()
