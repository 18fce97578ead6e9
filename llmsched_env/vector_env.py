"""``LLMSched-v0`` as a native vector environment: N lanes in one call of the compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from llmsched_env import layout, spaces
from llmsched_env.config import SimConfig
from llmsched_env.env import LLMSchedEnv, check_steps, episode_metrics
from llmsched_env.lanes import Lanes
from llmsched_env.options import parse_options

TERMS = ("miss", "holding", "late")


class LLMSchedVectorEnv(VectorEnv):
    """N lanes of ``LLMSched-v0`` (see env.LLMSchedEnv for spaces, rewards and options).

    Lane i equals the scalar environment seeded with seed + i, bit for bit, through episode ends, whatever the number
    of lanes and ``threads``.  Info holds arrays with masks, as Gymnasium's vector environments give them;
    ``final_obs`` and ``final_info`` come with SAME_STEP.
    """

    metadata = {**LLMSchedEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}

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
        if not num_envs >= 1 or not threads >= 1:
            raise ValueError(f"num_envs={num_envs!r}, threads={threads!r}: give at least 1 of each.")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode={render_mode!r} is not known: choose one of human, ansi, rgb_array.")
        self.num_envs = num_envs
        self.options = parse_options(options)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.max_episode_steps = check_steps(max_episode_steps)
        self.render_mode = render_mode
        self._lanes = Lanes(
            self.options, num_envs, threads=min(threads, num_envs), log=render_mode is not None, config=simulation
        )
        lanes = self._lanes
        self.single_action_space = spaces.action_space(self.options.action, lanes.max_bins, lanes.max_batch)
        self.single_observation_space = spaces.observation_space(lanes.max_bins)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._sizes = np.array(spaces.action_sizes(self.options.action, lanes.max_bins, lanes.max_batch))
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
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
                self._rngs[i], _ = gym.utils.seeding.np_random(seeds[i])
            lanes.start(i, self._rngs[i], seeded=seeds[i] is not None)
        lanes.run()
        self._over[mask] = False
        self._ready = True
        return lanes.image.copy(), {"time_s": lanes.outcome["time_s"].copy(), "_time_s": mask.copy()}

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
        info = self._info(~starting)
        reward = self._reward() * ~starting
        self._over = terminated | truncated
        if self._over.any():
            self._finish(info)
        return lanes.image.copy(), reward, terminated, truncated, info

    def _take(self, actions: Any) -> None:
        """Check the actions (N,) or (N, 2) and put them into the lanes."""
        array, lanes = np.asarray(actions), self._lanes
        ladder = self.options.action == "ladder"
        wanted = (self.num_envs,) if ladder else (self.num_envs, 2)
        if array.shape != wanted or array.dtype.kind not in "iu":
            raise gym.error.InvalidAction(
                f"actions of shape {array.shape} and type {array.dtype}: give integers of shape {wanted}."
            )
        sizes = self._sizes
        bad = (array.reshape(self.num_envs, -1) < 0) | (array.reshape(self.num_envs, -1) >= sizes)
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            raise gym.error.InvalidAction(f"action {array[row]!r} of environment {row} is not in its action space.")
        if ladder:
            lanes.actions[:, 0] = array
        else:
            lanes.actions[:] = array

    def _reward(self) -> NDArray[np.float64]:
        outcome, weights = self._lanes.outcome, self.options.weights
        return (
            weights["miss"] * outcome["miss"]
            + weights["holding"] * outcome["holding"]
            + weights["late"] * outcome["late"]
        )

    def _info(self, stepped: NDArray[np.bool_]) -> dict[str, Any]:
        outcome = self._lanes.outcome
        terms: dict[str, Any] = {}
        for name in TERMS:
            terms[name], terms[f"_{name}"] = outcome[name] * stepped, stepped
        info: dict[str, Any] = {"reward_terms": terms, "_reward_terms": stepped}
        for name in ("elapsed_s", "time_s", "empty_choices"):
            info[name], info[f"_{name}"] = outcome[name].copy(), stepped
        return info

    def _finish(self, info: dict[str, Any]) -> None:
        """Add the metrics of episodes that have just ended; with SAME_STEP start the next ones at once."""
        lanes, over = self._lanes, self._over
        metrics = [episode_metrics(lanes, i) if over[i] else None for i in range(self.num_envs)]
        columns: dict[str, Any] = {}
        for name in next(m for m in metrics if m):
            columns[name] = np.array([m[name] if m else 0 for m in metrics])
            columns[f"_{name}"] = over.copy()
        info["episode_metrics"], info["_episode_metrics"] = columns, over.copy()
        if self.autoreset_mode != AutoresetMode.SAME_STEP:
            return
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over).tolist():
            final_obs[i] = lanes.image[i].copy()
        final_info = dict(info)
        lanes.mode[:] = layout.SKIP
        for i in np.flatnonzero(over).tolist():
            lanes.start(i, self._rngs[i], seeded=False)
        lanes.run()
        info["final_obs"], info["_final_obs"] = final_obs, over.copy()
        info["final_info"], info["_final_info"] = final_info, over.copy()
        self._over = np.zeros(self.num_envs, bool)

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions of every lane, (N, actions) bool (see LLMSchedEnv.action_masks)."""
        return self._lanes.masks()

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        self._lanes.close()
