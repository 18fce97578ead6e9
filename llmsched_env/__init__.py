"""LLMSched: a Gymnasium environment over a compiled simulator of LLM-inference batch scheduling.

``import llmsched_env`` registers the environment and imports nothing heavy:

>>> import gymnasium as gym
>>> import llmsched_env
>>> env = gym.make("LLMSched-v0")

``gym.make("llmsched_env:LLMSched-v0")`` does both in one line.
"""

import logging
import os

from gymnasium.envs.registration import register, registry

__version__ = "0.1.0"

_threads = os.environ.get("NUMBA_NUM_THREADS", "").strip()
if _threads.lstrip("+-").isdigit() and int(_threads) < 1:
    del os.environ["NUMBA_NUM_THREADS"]  # Numba cannot be imported with it; nothing here uses its threads
    logging.getLogger(__name__).warning("NUMBA_NUM_THREADS=%s is below 1: it is ignored.", _threads)

if "LLMSched-v0" not in registry:
    register(
        id="LLMSched-v0",
        entry_point="llmsched_env.envs.scalar:LLMSchedEnv",
        vector_entry_point="llmsched_env.envs.vector:LLMSchedVectorEnv",
        reward_threshold=-0.053,  # of longest-queue, the best heuristic: docs/results/returns.md
    )

if "LLMSchedContinuous-v0" not in registry:
    register(
        id="LLMSchedContinuous-v0",
        entry_point="llmsched_env.envs.continuous:LLMSchedContinuousEnv",
        vector_entry_point="llmsched_env.envs.continuous:LLMSchedContinuousVectorEnv",
        reward_threshold=-0.1326,  # of sjf: docs/results/returns.md
    )

if "LLMSchedRouter-v0" not in registry:
    register(
        id="LLMSchedRouter-v0",
        entry_point="llmsched_env.envs.router:LLMSchedRouterEnv",
        vector_entry_point="llmsched_env.envs.router:LLMSchedRouterVectorEnv",
        reward_threshold=-0.289,  # of prefix-affinity: docs/results/returns.md
    )

if "LLMSchedSmall-v0" not in registry:
    register(
        id="LLMSchedSmall-v0",
        entry_point="llmsched_env.envs.small:LLMSchedSmallEnv",
        vector_entry_point="llmsched_env.envs.small:LLMSchedSmallVectorEnv",
    )
