"""Many systems that are trained on at once: native vector environments behind one interface of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from llmsched.policies.network.settings import OVERDUE_BATCH_FACTOR, OVERDUE_FACTOR, choose_discipline
from llmsched.train.sb3_vec_env import Indices, SB3VecEnv, make_sb3_vec_env
from llmsched.train.systems import TrainingSystem

LOAD_BANDS = ((0.5, 0.9), (0.9, 1.2), (1.2, 1.6))
"""Ranges of loads; the episodes of a lane draw their load from one of them."""

HOLDING = 0.02
"""Cost, in misses, of a request that stays in the system for one T (the E2E target)."""


def make_system_env(
    system: TrainingSystem, band: tuple[float, float], lanes: int, requests: int, max_bins: int
) -> SB3VecEnv:
    """``lanes`` lanes of one system; their episodes have ``requests`` requests and loads from ``band``."""
    return make_sb3_vec_env(
        lanes,
        workload=system.workload,
        rate=tuple(system.capacity * load for load in band),
        requests=requests,
        predictor=system.predictor,
        burstiness=system.burstiness,
        profile=system.profile,
        servers=system.servers,
        bins=system.bins if system.bins == 1 else [0, *system.config.queueing.edges],
        max_bins=max_bins,
        max_batch=system.max_batch,
        slo={"e2el": 1000.0 * system.target_s},
        discipline=choose_discipline(system.config),
        overdue_factor=OVERDUE_FACTOR["batch"],
        overdue_batch_factor=OVERDUE_BATCH_FACTOR,
        reward={"miss": 1.0, "holding": HOLDING / system.target_s},
        action="ladder",
    )


class ManySystems(VecEnv):
    """Vector environments with equal spaces, lanes one after the other; ``bands`` (lanes,) are places in LOAD_BANDS."""

    def __init__(self, envs: Sequence[SB3VecEnv], bands: Sequence[int]) -> None:
        first = envs[0]
        if any(env.observation_space != first.observation_space for env in envs):
            raise ValueError("the environments differ in their spaces: give the same max_bins and max_batch to all.")
        self.envs = list(envs)
        self._cuts = np.cumsum([0, *(env.num_envs for env in envs)])
        self.bands = np.repeat(np.asarray(bands), [env.num_envs for env in envs])
        super().__init__(int(self._cuts[-1]), first.observation_space, first.action_space)
        self._actions: NDArray = np.zeros(0)

    def reset(self) -> NDArray[np.float32]:
        """Reset every lane; after ``seed``, lane i of all lanes gets seed + i."""
        if self._seeds[0] is not None:
            for env, low in zip(self.envs, self._cuts, strict=False):
                env.seed(self._seeds[0] + int(low))
            self._reset_seeds()
        return np.concatenate([env.reset() for env in self.envs])

    def step_async(self, actions: NDArray) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Perform the actions."""
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
        """Whether the lanes are wrapped in ``wrapper_class``."""
        every = [value for env in self.envs for value in env.env_is_wrapped(wrapper_class)]
        return [every[i] for i in self._get_indices(indices)]


def make_many_systems(
    systems: Sequence[TrainingSystem], lanes: int, requests: int, max_bins: int, seed: int
) -> ManySystems:
    """``lanes`` lanes of every system in every band of loads."""
    pairs = [(system, band) for system in systems for band in range(len(LOAD_BANDS))]
    envs = [make_system_env(system, LOAD_BANDS[band], lanes, requests, max_bins) for system, band in pairs]
    made = ManySystems(envs, [band for _, band in pairs])
    made.seed(seed)
    return made
