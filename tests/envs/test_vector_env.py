"""`LLMSched-v0` as a vector environment: every lane is the scalar environment, whatever the mode and the threads."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
from numpy.typing import NDArray

import llmsched_env  # noqa: F401  (registers the environments)
from llmsched_env.envs.episodes import Episodes
from llmsched_env.envs.options import EnvOptions
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from tests.envs.env_tools import CASES, assert_equal, options_of, own_requests, rollout

ID = "LLMSched-v0"
N = 5
MODES = list(AutoresetMode)
Actions = list[NDArray[np.int64]]


def short(name: str) -> dict[str, Any]:
    """A case with episodes of few requests, so that many end."""
    return options_of(name, **({} if "requests" in CASES[name] else {"requests": 15}))


def draw_actions(options: dict[str, Any], steps: int, seed: int = 1) -> Actions:
    """Actions of all lanes, small batches mostly: many decisions."""
    rng, space = np.random.default_rng(seed), LLMSchedVectorEnv(1, **options).single_action_space
    if isinstance(space, gym.spaces.Discrete):
        return [rng.integers(space.n, size=N) for _ in range(steps)]
    high = np.minimum(space.nvec, [space.nvec[0], 6])  # type: ignore[attr-defined]
    return [rng.integers(high, size=(N, 2)) for _ in range(steps)]


def alone(options: dict[str, Any], mode: AutoresetMode, actions: Actions, seed: int) -> list[list[Any]]:
    """What each lane should see: scalar environments with seed + i, reset by hand as the mode says."""
    lanes = []
    for i in range(N):
        env = LLMSchedEnv(**options)
        seen: list[Any] = [(env.reset(seed=seed + i)[0], 0.0, False, False)]
        for action in actions:
            over = seen[-1][2] or seen[-1][3]
            if over and mode == AutoresetMode.NEXT_STEP:
                seen.append((env.reset()[0], 0.0, False, False))
                continue
            if over and mode == AutoresetMode.DISABLED:
                env.reset()
            step = env.step(action[i])[:4]
            if (step[2] or step[3]) and mode == AutoresetMode.SAME_STEP:
                step = (env.reset()[0], *step[1:])
            seen.append(step)
        lanes.append(seen)
    return lanes


def together(options: dict[str, Any], mode: AutoresetMode, actions: Actions, seed: int, threads: int = 1) -> list:
    """The same from the vector environment."""
    envs = LLMSchedVectorEnv(N, threads=threads, autoreset_mode=mode, **options)
    seen: list[Any] = [(envs.reset(seed=seed)[0], np.zeros(N), np.zeros(N, bool), np.zeros(N, bool))]
    for action in actions:
        over = seen[-1][2] | seen[-1][3]
        if mode == AutoresetMode.DISABLED and over.any():
            envs.reset(options={"reset_mask": over})
        seen.append(envs.step(action)[:4])
    envs.close()
    return [[tuple(part[i] for part in step) for step in seen] for i in range(N)]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("name", CASES)
def test_lane_i_is_the_scalar_environment_with_seed_plus_i(name: str, mode: AutoresetMode) -> None:
    """Bit for bit through many episode ends."""
    options = short(name)
    actions = draw_actions(options, 100)
    expected = alone(options, mode, actions, 7)
    assert_equal(together(options, mode, actions, 7), expected)
    ends = sum(bool(step[2] or step[3]) for lane in expected for step in lane)
    assert ends >= (1 if name in ("128 servers", "own requests") else N)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.name)
@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("name", ["default", "ladder", "tiny memory", "workload by episode", "until a time"])
def test_equals_gymnasiums_own_vector_environment(name: str, limit: int | None, mode: AutoresetMode) -> None:
    """Observations, rewards, flags, and every info array with its mask; types included."""
    options = {**short(name), "max_episode_steps": limit}
    theirs = SyncVectorEnv([lambda: LLMSchedEnv(**options)] * N, autoreset_mode=mode)
    ours = LLMSchedVectorEnv(N, autoreset_mode=mode, **options)
    assert ours.metadata["autoreset_mode"] is mode
    assert (ours.single_action_space, ours.action_space) == (theirs.single_action_space, theirs.action_space)
    assert ours.observation_space == theirs.observation_space
    assert_equal(ours.reset(seed=3), theirs.reset(seed=3))
    ends = 0
    for action in draw_actions(short(name), 80):
        got, expected = ours.step(action), theirs.step(action)
        assert_equal(got, expected)
        ends += int((got[2] | got[3]).sum())
    assert ends >= N
    mask = np.arange(N) % 2 == 0
    for seed in (None, 8, [1, None, 3, 4, None]):
        assert_equal(
            ours.reset(seed=seed, options={"reset_mask": mask}), theirs.reset(seed=seed, options={"reset_mask": mask})
        )
        assert_equal(ours.step(action), theirs.step(action))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("threads", [2, 3, 5, 64])
def test_threads_change_nothing(threads: int, mode: AutoresetMode) -> None:
    """Lanes are shared out, results are not touched."""
    options = {"requests": 15}
    actions = draw_actions(options, 100)
    assert_equal(together(options, mode, actions, 0, threads), together(options, mode, actions, 0))


def test_number_of_lanes_changes_nothing() -> None:
    """Lane i of 2 and lane i of 40."""
    few, many = (LLMSchedVectorEnv(n, requests=15) for n in (2, 40))
    np.testing.assert_array_equal(few.reset(seed=4)[0], many.reset(seed=4)[0][:2])
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.integers([5, 6], size=(40, 2))
        assert_equal(list(few.step(action[:2])[:4]), [part[:2] for part in many.step(action)[:4]])


def test_many_lanes_hold_few_episodes_and_draw_the_same() -> None:
    """How many episodes are drawn in one go depends on the lanes, what they hold does not."""
    options = EnvOptions(requests=40)
    few, many = Episodes(options), Episodes(options, 10**6)
    drawn = []
    for episodes in (few, many):
        rng = np.random.default_rng(3)
        drawn.append([episodes.draw(rng) for _ in range(12)])
    for one, other in zip(*drawn, strict=True):
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "predicted_tokens"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert len(few._ready) == 3 and not many._ready  # 1 + 2 + 4 + 8 were drawn, and 1 at a time


def test_seeds() -> None:
    """A number is seed + i; a list is one each; 0 is a seed; lanes differ."""
    envs = LLMSchedVectorEnv(4, requests=15)
    by_number = envs.reset(seed=0)[0]
    np.testing.assert_array_equal(by_number, envs.reset(seed=[0, 1, 2, 3])[0])
    np.testing.assert_array_equal(by_number[::-1], envs.reset(seed=[3, 2, 1, 0])[0])
    np.testing.assert_array_equal(by_number, np.stack([LLMSchedEnv(requests=15).reset(seed=i)[0] for i in range(4)]))
    assert len({row.tobytes() for row in by_number}) == 4
    envs.reset(seed=0)
    after = envs.reset()[0]
    assert len({row.tobytes() for row in [*after, *by_number]}) == 8
    envs.reset(seed=0)
    np.testing.assert_array_equal(after, envs.reset()[0])
    assert not np.array_equal(LLMSchedVectorEnv(2).reset()[0], LLMSchedVectorEnv(2).reset()[0])
    with pytest.raises(ValueError, match="2 seeds for 4 environments"):
        envs.reset(seed=[1, 2])


def test_make_vec_with_a_step_limit() -> None:
    """`gym.make_vec(..., max_episode_steps=n)` reaches the environment, which truncates by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec(f"llmsched_env:{ID}", num_envs=3, requests=400, max_episode_steps=7)
    assert isinstance(envs, LLMSchedVectorEnv) and envs.spec is not None and envs.spec.id == ID
    envs.reset(seed=0)
    for step in range(1, 20):
        _, _, terminated, truncated, info = envs.step(np.tile([4, 1], (3, 1)))
        assert truncated.all() == (step % 8 == 7) and not terminated.any()
        assert ("episode_metrics" in info) == bool(truncated.all())


def test_a_registered_step_limit_reaches_the_vector_environment() -> None:
    """The spec's own `max_episode_steps` does so as well."""
    spec = copy.deepcopy(gym.spec(ID))
    spec.max_episode_steps = 3
    envs = gym.make_vec(spec, num_envs=2, requests=100)
    envs.reset(seed=0)
    flags = [envs.step(np.tile([4, 1], (2, 1)))[3].all() for _ in range(4)]
    assert flags == [False, False, True, False]


def test_the_vectorization_modes_of_make_vec() -> None:
    """Native by default, Gymnasium's synchronous one when asked for: equal."""
    native, sync = (gym.make_vec(ID, num_envs=3, vectorization_mode=mode, requests=15) for mode in (None, "sync"))
    assert_equal(native.reset(seed=1), sync.reset(seed=1))
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.integers([5, 6], size=(3, 2))
        assert_equal(native.step(action), sync.step(action))


def test_final_observation_and_info_with_same_step() -> None:
    """What the episode ended with is handed over beside the first observation of the next."""
    envs = LLMSchedVectorEnv(2, requests=10, autoreset_mode="SameStep")
    envs.reset(seed=0)
    scalar = LLMSchedEnv(requests=10)
    scalar.reset(seed=0)
    over = False
    while not over:
        expected = scalar.step((4, 3))
        observation, reward, _, _, info = envs.step(np.array([[4, 3], [4, 1]]))
        over = expected[2]
        assert ("final_obs" in info) == over
    np.testing.assert_array_equal(info["final_obs"][0], expected[0])
    assert info["final_obs"][1] is None and info["_final_obs"].tolist() == [True, False]
    final = info["final_info"]
    assert final["episode_metrics"]["completed"].tolist() == [10, 0]
    assert {k: v[0] for k, v in final["episode_metrics"].items() if k[0] != "_"} == expected[4]["episode_metrics"]
    assert (final["time_s"][0], info["time_s"][0]) == (expected[4]["time_s"], scalar.reset()[1]["time_s"])
    assert reward[0] == expected[1] and "episode_metrics" not in info
    assert not np.array_equal(observation[0], expected[0])


def test_disabled_autoreset_asks_for_a_reset() -> None:
    """A lane that has ended may not be stepped; `reset_mask` resets it and leaves the others alone."""
    envs = LLMSchedVectorEnv(2, requests=10, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    over = np.zeros(2, bool)
    while not over.any():
        _, _, terminated, _, info = envs.step(np.array([[4, 9], [4, 1]]))
        over = terminated
    assert over.tolist() == [True, False] and info["_episode_metrics"].tolist() == [True, False]
    with pytest.raises(gym.error.ResetNeeded, match="environment 0 has ended.*reset_mask"):
        envs.step(np.array([[4, 9], [4, 1]]))
    before = envs._lanes.image[1].copy()
    observation, info = envs.reset(options={"reset_mask": over})
    np.testing.assert_array_equal(observation[1], before)
    assert info["_time_s"].tolist() == [True, False] and info["time_s"][1] == 0.0
    envs.step(np.array([[4, 9], [4, 1]]))


@pytest.mark.parametrize("mask", [[True], [True, False, True], [1, 0], [False, False], "all", np.ones((2, 1), bool)])
def test_bad_reset_masks(mask: Any) -> None:
    """Shape, type, and at least one lane."""
    envs = LLMSchedVectorEnv(2, requests=10)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask must hold 2 bools"):
        envs.reset(options={"reset_mask": mask})


BAD_ACTIONS = [
    *([[0, 1]], [[0, 1]] * 3, [0, 1], [[0.0, 1.0]] * 2, [[0, 129], [0, 1]], [[0, 1], [5, 1]], [[0, -1], [0, 1]]),
    *(None, "go", [[True, True]] * 2, [[[0, 1]]] * 2, [["0", "1"]] * 2),
]


@pytest.mark.parametrize("actions", BAD_ACTIONS, ids=str)
def test_bad_actions(actions: Any) -> None:
    """Refused as a whole before any lane moves."""
    envs = LLMSchedVectorEnv(2, requests=10)
    envs.reset(seed=0)
    lanes = envs._lanes.simulator.lane.tobytes()
    with pytest.raises(gym.error.InvalidAction, match="give integers of shape|is not in its action space"):
        envs.step(actions)
    assert envs._lanes.simulator.lane.tobytes() == lanes
    with pytest.raises(gym.error.InvalidAction, match=re.escape("(2,)")):
        two_lanes(action="ladder").step([[0, 1], [0, 1]])


def two_lanes(**options: Any) -> LLMSchedVectorEnv:
    """Two lanes after a reset."""
    envs = LLMSchedVectorEnv(2, requests=10, **options)
    envs.reset(seed=0)
    return envs


def test_step_before_reset() -> None:
    """Named as such."""
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        LLMSchedVectorEnv(2).step(np.zeros((2, 2), int))


def test_masks_of_all_lanes() -> None:
    """Row i is what the scalar environment says."""
    for action in ("multidiscrete", "ladder"):
        options: dict[str, Any] = {"requests": 15, "action": action, "max_bins": 6}
        envs, scalars = LLMSchedVectorEnv(N, **options), [LLMSchedEnv(**options) for _ in range(N)]
        envs.reset(seed=2)
        for i, scalar in enumerate(scalars):
            scalar.reset(seed=2 + i)
        for actions in draw_actions(options, 6):
            np.testing.assert_array_equal(envs.action_masks(), [scalar.action_masks() for scalar in scalars])
            envs.step(actions)
            for scalar, chosen in zip(scalars, actions, strict=True):
                scalar.step(chosen)


def test_results_are_not_used_again() -> None:
    """Arrays of earlier steps, info included, stay as they were."""
    envs = two_lanes()
    kept = envs.step(np.array([[4, 1], [4, 2]]))
    twin = copy.deepcopy(kept)
    for _ in range(30):
        envs.step(np.array([[4, 3], [4, 1]]))
    assert_equal(kept, twin)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda envs: pickle.loads(pickle.dumps(envs))], ids=["deepcopy", "pickle"]
)
def test_copies_go_on_alike(how: Any, threads: int) -> None:
    """Also with threads, which cannot be copied and are made anew."""
    envs = LLMSchedVectorEnv(N, requests=15, threads=threads)
    envs.reset(seed=0)
    actions = draw_actions({"requests": 15}, 100)
    for action in actions[:9]:
        envs.step(action)
    twin = how(envs)
    for action in actions[9:]:
        assert_equal(envs.step(action), twin.step(action))


def test_close_twice_and_go_on() -> None:
    """Closing stops the threads; the lanes still work."""
    envs, twin = (LLMSchedVectorEnv(4, requests=15, threads=threads) for threads in (3, 1))
    envs.reset(seed=0)
    envs.close()
    envs.close()
    assert_equal(envs.reset(seed=1), twin.reset(seed=1))
    action = np.tile([4, 2], (4, 1))
    assert_equal(envs.step(action), twin.step(action))


def test_own_requests_in_every_lane() -> None:
    """`reset(options={"requests": ...})` as in the scalar environment."""
    options: dict[str, Any] = {"requests": 120, "bins": (0, 30, 90)}
    envs, scalar = LLMSchedVectorEnv(2, **options), LLMSchedEnv(**options)
    own = {"requests": own_requests()}
    for lane in envs.reset(seed=0, options=own)[0]:
        np.testing.assert_array_equal(lane, scalar.reset(seed=0, options=own)[0])


def test_gymnasiums_vector_wrappers() -> None:
    """Statistics and normalisation work, and the statistics are those of the scalar environment."""
    envs = RecordEpisodeStatistics(NormalizeReward(NormalizeObservation(LLMSchedVectorEnv(2, requests=15))))
    envs.reset(seed=0)
    assert all(np.isfinite(envs.step(np.array([[4, 2], [3, 1]]))[1]).all() for _ in range(40))
    envs = RecordEpisodeStatistics(LLMSchedVectorEnv(1, requests=15))
    envs.reset(seed=0)
    info: dict[str, Any] = {}
    while "episode" not in info:
        info = envs.step(np.array([[4, 2]]))[4]
    env = LLMSchedEnv(requests=15)
    env.reset(seed=0)
    rewards, over = [], False
    while not over:
        _, reward, over, _, _ = env.step((4, 2))
        rewards.append(reward)
    assert info["episode"]["r"][0] == pytest.approx(sum(rewards)) and info["episode"]["l"][0] == len(rewards)


def test_series_of_a_lane_are_those_of_the_scalar_environment() -> None:
    """Twenty episodes on, lane 2 still plays what a scalar environment with that seed plays."""
    envs, scalar = LLMSchedVectorEnv(3, requests=8, autoreset_mode="SameStep"), LLMSchedEnv(requests=8)
    envs.reset(seed=5)
    rollout(scalar, 7, steps=1)
    firsts = [scalar.reset()[0] for _ in range(20)]
    seen: list[Any] = []
    while len(seen) < 20:
        observation, _, terminated, _, _ = envs.step(np.tile([4, 4], (3, 1)))
        if terminated[2]:
            seen.append(observation[2])
    assert_equal(seen, firsts)
