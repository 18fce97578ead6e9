"""Native vector environments behind the interface of Stable-Baselines3 (SB3): ``make_sb3_vec_env(256)``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

import llmsched_env  # noqa: F401  (registers the environments)

Indices = int | Iterable[int] | None


def make_sb3_vec_env(
    num_envs: int, env_id: str = "LLMSched-v0", *, seed: int | None = None, **options: Any
) -> SB3VecEnv:
    """``num_envs`` lanes of ``env_id`` for SB3; ``options`` go to the environment (``threads=2`` among them).

    With ``seed``, lane i of the first reset is seeded with seed + i, as ``make_vec_env`` does it.
    """
    env = SB3VecEnv(gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **options))
    if seed is not None:
        env.seed(seed)
    return env


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment that resets in the same step, behind SB3's interface.

    It equals a ``DummyVecEnv`` of scalar environments in ``Monitor`` bit for bit, with the same seeds.  ``infos`` are
    empty except for lanes whose episode has just ended; those have ``terminal_observation``, ``TimeLimit.truncated``,
    ``episode`` (as of ``Monitor``: r, l, t) and ``episode_metrics`` where the environment gives them.
    """

    def __init__(self, env: VectorEnv) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode={mode} does not fit SB3: make the environment with autoreset_mode=SAME_STEP."
            )
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: NDArray = np.zeros(0)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._began = time.time()

    def reset(self) -> NDArray[np.float32]:
        """Reset every lane, with the seeds and options that ``seed`` and ``set_options`` left."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError("a native vector environment has one set of options: give the same options to every lane.")
        observations, _ = self.env.reset(seed=self._seeds[0], options=options or None)  # lane i: that + i
        self.reset_infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._returns[:], self._lengths[:] = 0.0, 0
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: NDArray) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Perform the actions; a lane whose episode ends returns the first observation of its next one."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones).tolist():
            infos[i] = self._end_episode(i, info, bool(truncated[i] and not terminated[i]))
        return observations, rewards.astype(np.float32), dones, infos

    def _end_episode(self, i: int, info: dict[str, Any], cut: bool) -> dict[str, Any]:
        """The info of lane ``i``, whose episode has ended (``cut``: only by a time limit); its sums begin again."""
        spent = round(time.time() - self._began, 6)
        episode = {"r": round(float(self._returns[i]), 6), "l": int(self._lengths[i]), "t": spent}
        self._returns[i], self._lengths[i] = 0.0, 0
        found = {"terminal_observation": info["final_obs"][i], "TimeLimit.truncated": cut, "episode": episode}
        metrics = info.get("final_info", {}).get("episode_metrics")
        if metrics is not None:
            found["episode_metrics"] = {k: v[i].item() for k, v in metrics.items() if not k.startswith("_")}
        return found

    def close(self) -> None:
        """Close the environment; may be called twice."""
        self.env.close()

    def _rows(self, indices: Indices) -> list[int]:
        return list(self._get_indices(indices))

    def has_attr(self, attr_name: str) -> bool:
        """Whether the lanes have an attribute of this name."""
        return hasattr(self.env, attr_name)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute, which all lanes share, once for every lane asked for; spaces are those of one lane."""
        single = f"single_{attr_name}"
        name = single if attr_name in ("action_space", "observation_space") else attr_name
        value = getattr(self.env, name)
        return [value for _ in self._rows(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of all lanes."""
        if indices is not None and len(self._rows(indices)) != self.num_envs:
            raise ValueError(f"set_attr({attr_name!r}): the lanes share their attributes; set it for all of them.")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any) -> list:
        """``action_masks`` (which MaskablePPO asks for) or ``render`` of some lanes, one entry each."""
        if method_name not in ("action_masks", "render"):
            raise AttributeError(
                f"{method_name!r}: the lanes of a native vector environment have action_masks and render only."
            )
        found = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [None if found is None else found[i] for i in self._rows(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Indices = None) -> list[bool]:
        """True for ``Monitor``, whose statistics are kept here; there are no wrappers around single lanes."""
        return [wrapper_class is Monitor for _ in self._rows(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A picture of every lane (render_mode="rgb_array")."""
        return self.env_method("render")
