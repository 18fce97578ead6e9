"""`LLMSched-v0` as a citizen of Gymnasium: checkers, types, specification, determinism, copies, wrappers, errors."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.wrappers import (
    FlattenObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    RecordVideo,
    TimeLimit,
)

import llmsched_env  # noqa: F401  (registers the environments)
from llmsched_env.envs.scalar import LLMSchedEnv
from tests.envs.env_tools import CASES, assert_equal, options_of, own_requests, play, rollout, valid_action

ROOT = Path(__file__).resolve().parents[2]
ID = "LLMSched-v0"


def make(**options) -> gym.Env:
    """The registered environment with short episodes."""
    return gym.make(ID, **{"requests": 60, **options})


# Checkers and types ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["multidiscrete", "ladder"])
def test_gymnasiums_checker_has_nothing_to_say(action: str, capsys: pytest.CaptureFixture) -> None:
    """check_env, rendering included, with every warning an error."""
    env = make(action=action)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    assert "WARN" not in "".join(capsys.readouterr())


def test_the_passive_checker_has_nothing_to_say() -> None:
    """The wrapper that gym.make adds looks at every step of an episode."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rollout(make(), 0)
        rollout(make(render_mode="rgb_array"), 0)


@pytest.mark.parametrize("name", CASES)
def test_types_are_pythons_own(name: str) -> None:
    """What Stable-Baselines3's checker asks for: float reward, bool flags, array observation of the space's dtype."""
    env = LLMSchedEnv(**options_of(name))
    for observation, reward, terminated, truncated, info in rollout(env, 3):
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool and type(info) is dict
        assert type(observation) is np.ndarray and observation.dtype == np.float32
    assert isinstance(env.observation_space, gym.spaces.Box) and env.observation_space.shape == observation.shape
    assert len(env.observation_space.shape) == 1 and np.isfinite(env.observation_space.low).all()
    assert isinstance(env.action_space, gym.spaces.MultiDiscrete | gym.spaces.Discrete)
    assert (np.asarray(env.action_space.start) == 0).all()


def test_info_is_small_and_plain() -> None:
    """Vector environments copy it every step: numbers and dictionaries of numbers, metrics only at the end."""
    steps = rollout(make(), 0)
    assert set(steps[0][4]) == {"time_s"}
    assert set(steps[1][4]) == {"reward_terms", "elapsed_s", "time_s", "empty_choices"}
    assert set(steps[-1][4]) == {*steps[1][4], "episode_metrics"}
    json.dumps(steps[-1][4])


def test_what_is_returned_is_not_used_again() -> None:
    """Observations and infos of earlier steps stay as they were."""
    env = make()
    steps = rollout(env, 0)
    kept = copy.deepcopy(steps)
    rollout(env, 1)
    assert_equal(steps, kept)


# Specification and registration ---------------------------------------------------------------------------------


def test_spec_round_trip() -> None:
    """spec -> JSON -> spec -> the same environment."""
    env = make(servers=2, bins=[0, 64, 256], slo={"e2el": 12_000.0}, action="ladder")
    assert env.spec is not None
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert_equal(rollout(spec.make(), 5), rollout(env, 5))
    assert_equal(rollout(pickle.loads(pickle.dumps(env.spec)).make(), 5), rollout(env, 5))


def test_make_by_module_name_in_a_fresh_process() -> None:
    """`gym.make("llmsched_env:LLMSched-v0")` registers by itself, in ten lines and without a warning."""
    code = (
        "import gymnasium as gym; env = gym.make('llmsched_env:LLMSched-v0', requests=20); "
        "print(env.reset(seed=0)[0].sum()); envs = gym.make_vec('llmsched_env:LLMSched-v0', num_envs=2, requests=20); "
        "print(envs.reset(seed=0)[0][0].sum())"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, second = run.stdout.split()
    assert first == second == str(make(requests=20).reset(seed=0)[0].sum())
    assert run.stderr == ""


def fingerprint_of(seed: int) -> str:
    """What an episode looks like, as text."""
    steps = rollout(gym.make("llmsched_env:LLMSched-v0", requests=60), seed)
    return json.dumps([(float(o.sum()), r, t, u, i) for o, r, t, u, i in steps])


def test_equal_across_processes() -> None:
    """A spawned process, which imports everything anew, sees the same episode."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(fingerprint_of, [11, 0]) == [fingerprint_of(11), fingerprint_of(0)]


# Determinism ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_same_seed_same_episode_other_seed_other_episode(name: str) -> None:
    """Two environments, one seed; and a seed more."""
    first, second = (rollout(LLMSchedEnv(**options_of(name)), 4) for _ in range(2))
    assert_equal(first, second)
    if name != "own requests":
        other = rollout(LLMSchedEnv(**options_of(name)), 5)
        assert not data_equivalence([s[0] for s in first], [s[0] for s in other], exact=True)


@pytest.mark.parametrize("name", CASES)
def test_a_reset_in_the_middle_leaves_nothing_behind(name: str) -> None:
    """reset(seed) after half an episode, and after three whole ones, equals a fresh environment."""
    fresh = rollout(LLMSchedEnv(**options_of(name)), 6)
    env = LLMSchedEnv(**options_of(name))
    rollout(env, 1, steps=9)
    assert_equal(rollout(env, 6), fresh)
    for seed in (1, None, None):
        rollout(env, seed)
    assert_equal(rollout(env, 6), fresh)


def test_seed_zero_is_a_seed() -> None:
    """Not mistaken for no seed."""
    env = make()
    first = rollout(env, 0)
    rollout(env, None)
    assert_equal(rollout(env, 0), first)
    assert not np.array_equal(make().reset(seed=1)[0], first[0][0])


@pytest.mark.parametrize("options", [{}, {"rate": (1.0, 5.0)}, {"requests": None, "duration_s": 30.0}])
def test_the_series_after_a_seed(options: dict) -> None:
    """Resets without a seed go through a series of different episodes that the first seed fixes."""
    series = []
    for _ in range(2):
        env = make(**options)
        series.append([env.reset(seed=8)[0], *(env.reset()[0] for _ in range(12))])
    assert_equal(series[0], series[1])
    assert len({observation.tobytes() for observation in series[0]}) == 13


def test_unseeded_environments_differ() -> None:
    """Without any seed every environment has entropy of its own."""
    assert not np.array_equal(make().reset()[0], make().reset()[0])


def test_the_action_spaces_generator_does_not_matter() -> None:
    """Drawing actions does not reach the episode."""
    env = make()
    observation = env.reset(seed=2)[0]
    env.action_space.seed(99)
    env.action_space.sample()
    np.testing.assert_array_equal(env.reset(seed=2)[0], observation)


# Copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("name", ["default", "ladder", "tiny memory, own order", "workload by episode", "until a time"])
def test_copies_go_on_alike(name: str, how) -> None:
    """A copy made in the middle continues as the original, through the end and into the next episodes."""
    env = LLMSchedEnv(**options_of(name))
    env.reset(seed=1)
    rng = np.random.default_rng(1)
    for _ in range(7):
        env.step(valid_action(env, rng))
    twin = how(env)
    ours = [play(env, 2), *(rollout(env, None) for _ in range(3))]
    theirs = [play(twin, 2), *(rollout(twin, None) for _ in range(3))]
    assert_equal(ours, theirs)


def test_a_copy_is_apart() -> None:
    """Steps of the copy do not reach the original, nor the other way round."""
    env = make().unwrapped
    assert isinstance(env, LLMSchedEnv)
    env.reset(seed=1)
    twin = copy.deepcopy(env)
    record = env.record.copy()
    rollout(twin, 3)
    assert env.record == record
    twin.reset(seed=1)
    assert_equal(play(env, 4), play(twin, 4))


def test_pickle_before_reset_and_through_wrappers() -> None:
    """A wrapped environment that was never reset travels too."""
    env = pickle.loads(pickle.dumps(make(render_mode="rgb_array")))
    assert_equal(rollout(env, 0), rollout(make(), 0))


# Wrappers -------------------------------------------------------------------------------------------------------


def test_record_episode_statistics_and_normalise_reward() -> None:
    """The return that the statistics report is the sum of what the environment paid."""
    env = RecordEpisodeStatistics(make())
    steps = rollout(env, 0)
    assert steps[-1][4]["episode"]["r"] == pytest.approx(sum(step[1] for step in steps))
    assert steps[-1][4]["episode"]["l"] == len(steps) - 1
    assert all(np.isfinite(step[1]) for step in rollout(NormalizeReward(make()), 0))


def test_flatten_observation() -> None:
    """The observation is flat already."""
    assert_equal([s[0] for s in rollout(FlattenObservation(make()), 0)], [s[0] for s in rollout(make(), 0)])


def test_time_limit() -> None:
    """`max_episode_steps` of gym.make truncates and does not terminate; so does the constructor's own."""
    for env in (make(max_episode_steps=5), TimeLimit(make(), 5), LLMSchedEnv(requests=60, max_episode_steps=5)):
        steps = rollout(env, 0)
        assert len(steps) - 1 == 5
        assert [step[2:4] for step in steps[1:]] == [(False, False)] * 4 + [(False, True)]


def test_record_video(tmp_path: Path) -> None:
    """A video of an episode is written."""
    pytest.importorskip("moviepy", reason="RecordVideo writes with moviepy, which is not part of the tests' needs")
    folder = tmp_path / "film"
    env = RecordVideo(make(requests=8, render_mode="rgb_array"), str(folder), episode_trigger=lambda _: True)
    rollout(env, 0)
    env.close()
    assert list(folder.glob("*.mp4"))


def test_record_video_collects_frames() -> None:
    """As far as it goes without moviepy: a frame per step, of one size."""
    env = gym.wrappers.RenderCollection(make(requests=8, render_mode="rgb_array"))
    steps = rollout(env, 0)
    frames: Any = env.render()
    assert len(frames) == len(steps) and {frame.shape for frame in frames} == {(720, 1280, 3)}


# Errors in use --------------------------------------------------------------------------------------------------


def test_step_before_reset_and_after_the_end() -> None:
    """Both name the remedy."""
    env = LLMSchedEnv(requests=20)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step((0, 1))
    rollout(env, 0)
    with pytest.raises(gym.error.ResetNeeded, match="after the end"):
        env.step((0, 1))
    env.reset(seed=0)
    env.step((0, 1))


BAD: dict[str, list[Any]] = {
    "multidiscrete": [
        *((5, 1), (-1, 1), (0, 129), (0, -1), (0.5, 1), (0, 1.5), (0, np.nan), (0, np.inf), (0,), (0, 1, 2)),
        *(0, 1.0, None, "wait", {}, [], [[0, 1]], np.array([[0, 1]]), ("0", "1"), np.array([0.5, 2.0])),
    ],
    "ladder": [46, -1, 0.5, np.nan, np.inf, None, "wait", (0, 1), [], np.array([1, 2]), {}],
}
BAD_ACTIONS = [(kind, action) for kind, actions in BAD.items() for action in actions]


@pytest.mark.parametrize(("kind", "action"), BAD_ACTIONS, ids=str)
def test_an_action_that_is_not_in_the_space(kind: str, action) -> None:
    """Refused with the action and the space in the message, and nothing has happened."""
    env = LLMSchedEnv(requests=20, action=kind)
    env.reset(seed=0)
    record = env.record.copy()
    with pytest.raises(gym.error.InvalidAction, match="is not in"):
        env.step(action)
    assert env.record == record
    env.step(0 if kind == "ladder" else (0, 1))


@pytest.mark.parametrize("action", [(1, 3), [1, 3], np.array([1, 3]), np.array([1, 3], np.int8), (np.int64(1), 3.0)])
def test_an_action_in_any_dress(action) -> None:
    """Tuples, lists and arrays of any integer type are the same action."""
    results = []
    for form in (action, np.array([1, 3])):
        env = make()
        env.reset(seed=0)
        results.append(env.unwrapped.step(form))
    assert_equal(results[0], results[1])


def test_ladder_takes_numpy_integers() -> None:
    """What a learner's argmax gives."""
    env = LLMSchedEnv(requests=20, action="ladder")
    for action in (np.int64(3), np.array(3), 3):
        env.reset(seed=0)
        assert env.step(action)[4]["elapsed_s"] > 0


def test_own_requests_for_one_episode() -> None:
    """`reset(options={"requests": ...})`: played once, refused with a remedy where they cannot be."""
    env = LLMSchedEnv(requests=120, bins=(0, 30, 90))
    own = own_requests()
    steps = [env.reset(seed=0, options={"requests": own}), *play(env, 0)]
    assert steps[-1][4]["episode_metrics"]["completed"] == 120
    assert steps[0][1]["time_s"] == own.arrival_s[0]
    assert env.reset(seed=0)[1]["time_s"] != own.arrival_s[0]
    with pytest.raises(ValueError, match="requests=121"):
        env.reset(options={"requests": own_requests(121)})
    with pytest.raises(ValueError, match=r"Requests\.checked"):
        env.reset(options={"requests": [1, 2, 3]})


def test_close_twice() -> None:
    """Closing is safe to repeat."""
    env = make()
    env.reset(seed=0)
    env.close()
    env.close()
