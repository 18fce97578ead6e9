"""Many systems trained on at once: native vector environments side by side behind SB3's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from llmsched.policies.network.settings import OVERDUE_BATCH_FACTOR, OVERDUE_FACTOR, choose_discipline
from llmsched.train.sb3_vec_env import Indices, SB3VecEnv, make_sb3_vec_env
from llmsched.train.systems import Course

BANDS = ((0.5, 0.9), (0.9, 1.2), (1.2, 1.6))
"""Loads of training episodes: a lane draws from one of these ranges."""

HOLDING = 0.02
"""Price of a request that stays in the system for one T, in misses."""


def course_env(course: Course, band: tuple[float, float], lanes: int, requests: int, max_bins: int) -> SB3VecEnv:
    """``lanes`` lanes of one system whose episodes have loads of ``band``."""
    return make_sb3_vec_env(
        lanes,
        workload=course.workload,
        rate=tuple(course.capacity * load for load in band),
        requests=requests,
        predictor=course.predictor,
        burstiness=course.burstiness,
        profile=course.profile,
        servers=course.servers,
        bins=course.bins if course.bins == 1 else [0, *course.config.queueing.edges],
        max_bins=max_bins,
        max_batch=course.max_batch,
        slo={"e2el": 1000.0 * course.target_s},
        discipline=choose_discipline(course.config),
        late_bin=OVERDUE_FACTOR["batch"],
        triage=OVERDUE_BATCH_FACTOR,
        reward={"miss": 1.0, "holding": HOLDING / course.target_s},
        action="ladder",
    )


class Fleet(VecEnv):
    """Vector environments of equal spaces, one after the other; ``bands`` (lanes,) is the band of each lane."""

    def __init__(self, envs: Sequence[SB3VecEnv], bands: Sequence[int]) -> None:
        first = envs[0]
        if any(env.observation_space != first.observation_space for env in envs):
            raise ValueError("the environments differ in their spaces: give all the same max_bins and max_batch.")
        self.envs = list(envs)
        self._cuts = np.cumsum([0, *(env.num_envs for env in envs)])
        self.bands = np.repeat(np.asarray(bands), [env.num_envs for env in envs])
        super().__init__(int(self._cuts[-1]), first.observation_space, first.action_space)
        self._actions: NDArray = np.zeros(0)

    def reset(self) -> NDArray[np.float32]:
        """Reset every lane; lane i of the whole gets seed + i after ``seed``."""
        if self._seeds[0] is not None:
            for env, low in zip(self.envs, self._cuts, strict=False):
                env.seed(self._seeds[0] + int(low))
            self._reset_seeds()
        return np.concatenate([env.reset() for env in self.envs])

    def step_async(self, actions: NDArray) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Carry out the actions."""
        infos: list[dict[str, Any]] = []
        parts = []
        for env, low, high in zip(self.envs, self._cuts, self._cuts[1:], strict=False):
            env.step_async(self._actions[low:high])
            *arrays, info = env.step_wait()
            parts.append(arrays)
            infos += info
        observations, rewards, dones = (np.concatenate(column) for column in zip(*parts, strict=True))
        return observations, rewards, dones, infos

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of some lanes."""
        every = [value for env in self.envs for value in env.get_attr(attr_name)]
        return [every[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of all lanes."""
        for env in self.envs:
            env.set_attr(attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any) -> list:
        """Call a method (``action_masks``) of the lanes."""
        every = [value for env in self.envs for value in env.env_method(method_name, *method_args, **method_kwargs)]
        return [every[i] for i in self._get_indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Whether the lanes have an attribute of this name."""
        return all(env.has_attr(attr_name) for env in self.envs)

    def env_is_wrapped(self, wrapper_class: Any, indices: Indices = None) -> list[bool]:
        """As of the environments."""
        every = [value for env in self.envs for value in env.env_is_wrapped(wrapper_class)]
        return [every[i] for i in self._get_indices(indices)]


def make_fleet(courses: Sequence[Course], lanes: int, requests: int, max_bins: int, seed: int) -> Fleet:
    """``lanes`` lanes of every course in every band."""
    pairs = [(course, band) for course in courses for band in range(len(BANDS))]
    envs = [course_env(course, BANDS[band], lanes, requests, max_bins) for course, band in pairs]
    fleet = Fleet(envs, [band for _, band in pairs])
    fleet.seed(seed)
    return fleet
