"""Pictures and text of `LLMSched-v0`: right types, right numbers, nothing of the future."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_env.core.layout import NONE
from llmsched_env.envs.render.canvas import BACKGROUND, Canvas, bin_colours
from llmsched_env.envs.render.font import GLYPHS, text_mask, text_width
from llmsched_env.envs.render.picture import bin_labels, draw_scene, slo_text
from llmsched_env.envs.render.scene import WINDOW_S, Scene, scene_at
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from llmsched_env.requests import Requests
from tests.envs.env_tools import CASES, LLAMA2, options_of, rollout, valid_action

ROOT = Path(__file__).resolve().parents[2]


def stopped_at(env: LLMSchedEnv, time_s: float, seed: int = 0) -> float:
    """Play until the clock has passed ``time_s`` or the episode ends; returns the clock."""
    rng = np.random.default_rng(seed)
    info = env.reset(seed=seed)[1]
    while info["time_s"] < time_s:
        _, _, terminated, truncated, info = env.step(valid_action(env, rng))
        if terminated or truncated:
            break
    return float(info["time_s"])


@pytest.mark.parametrize("name", CASES)
def test_a_picture_of_every_case(name: str) -> None:
    """From the first decision to the last: (720, 1280, 3) uint8 with something on it."""
    env = LLMSchedEnv("rgb_array", **options_of(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for time_s in (20.0, 1e9):
            stopped_at(env, time_s)
            frame = env.render()
            assert frame.shape == (720, 1280, 3) and frame.dtype == np.uint8
            assert len(np.unique(frame @ np.array([65536, 256, 1]))) > 10


@pytest.mark.parametrize("name", CASES)
def test_the_scene_is_the_state(name: str) -> None:
    """At every decision: queues, counts and misses from stamps equal what the simulator keeps."""
    env = LLMSchedEnv("ansi", **options_of(name))
    rng = np.random.default_rng(0)
    env.reset(seed=1)
    over = False
    while not over:
        _, _, terminated, truncated, _ = env.step(valid_action(env, rng))
        over = terminated or truncated
        scene, lane = scene_at(env._lanes), env._lanes.simulator.lane[0]
        np.testing.assert_array_equal(scene.waiting, env._lanes.simulator.bins[0]["length"][:-1])
        np.testing.assert_array_equal(scene.waiting_at(np.array([scene.now]))[:, 0], scene.waiting)
        assert len(scene.misses) == lane["counts"]["misses"]
        assert (scene.arrived, scene.in_service) == (lane["next_arrival"], lane["in_service"])
        fates = ("completed", "rejected", "dropped", "refused", "abandoned")
        assert scene.done == sum(lane["counts"][fate] for fate in fates)
        assert scene.asked == lane["asked"]
        for batch in scene.batches:
            assert batch.start <= batch.end <= scene.now and batch.end > scene.now - WINDOW_S
            assert np.isinf(batch.last_token[~(batch.last_token <= scene.now)]).all()


def scene_and_picture(env: LLMSchedEnv, at_s: float) -> tuple[Scene, NDArray[np.uint8]]:
    """Both at one instant."""
    scene = scene_at(env._lanes, 0, at_s)
    return scene, draw_scene(scene)


@pytest.mark.parametrize("name", ["default", "every target", "unlike servers", "timers"])
def test_the_past_does_not_know_the_future(name: str) -> None:
    """The picture of an instant is the same now and twenty decisions later (but for the server that was asked)."""
    env = LLMSchedEnv("rgb_array", **options_of(name, requests=200))
    then = stopped_at(env, 15.0)
    early = copy.deepcopy(env)
    rng = np.random.default_rng(1)
    for _ in range(20):
        env.step(valid_action(env, rng))
    for at_s in (then - 1e-9, then - 5.0):
        first, second = scene_and_picture(early, at_s), scene_and_picture(env, at_s)
        assert first[0].asked == NONE
        np.testing.assert_array_equal(first[1], second[1])


def test_true_lengths_of_running_requests_do_not_show() -> None:
    """Two runs that differ only in outputs that are still being generated look alike."""
    n, frames = 40, []
    for output in (np.full(n, 400), np.arange(n) + 300):
        env = LLMSchedEnv("rgb_array", **LLAMA2, requests=n, bins=(0, 64, 256), servers=3)
        own = Requests.checked(0.2 * np.arange(n), np.full(n, 100), output, np.arange(1, n + 1) * 7)
        env.reset(seed=0, options={"requests": own})
        for action in ((3, 2), (3, 3), *[(3, 0)] * 20):
            env.step(action)
        frames.append(env.render())
    np.testing.assert_array_equal(*frames)
    assert env.record["now"] < 6.0


def test_picture_of_an_earlier_instant() -> None:
    """`picture(at_s)`: between decisions too, in any size from 640 x 420 on, with a title."""
    env = LLMSchedEnv("rgb_array", requests=60)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.render()
    now = stopped_at(env, 30.0)
    np.testing.assert_array_equal(env.picture(), env.render())
    np.testing.assert_array_equal(env.picture(now), env.render())
    np.testing.assert_array_equal(env.picture(now + 99.0), env.render())
    assert not np.array_equal(env.picture(now - 3.0), env.render())
    assert env.picture(width=640, height=420).shape == (420, 640, 3)
    assert not np.array_equal(env.picture(title="static"), env.render())
    with pytest.raises(ValueError, match="at least 640 x 420"):
        env.picture(width=100)
    with pytest.raises(gym.error.Error, match="render_mode"):
        LLMSchedEnv(requests=60).picture()


def test_text(capsys: pytest.CaptureFixture) -> None:
    """`ansi` returns lines of equal length that name clock, bins and servers; `human` prints the same in colour."""
    env = LLMSchedEnv("ansi", requests=60, rate=8.0)
    now = stopped_at(env, 15.0)
    text = env.render()
    lines = text.split("\n")
    assert lines[0].startswith(f"t {now:.1f} s") and "SLO missed" in lines[0]
    assert [line.split()[:2] for line in lines[1:5]] == [["bin", str(k)] for k in range(4)]
    assert len(lines) == 1 + 4 + 1 + 4 and "\x1b" not in text
    lengths = [line.rindex("|") for line in lines[1:5] + lines[6:]]
    assert len(set(lengths)) == 1
    assert [int(line.rpartition("|")[2]) for line in lines[1:5]] == env.record["queue_length"][:4].tolist()
    capsys.readouterr()
    human = LLMSchedEnv("human", requests=60, rate=8.0)
    stopped_at(human, 15.0)
    assert human.render() is None
    printed = capsys.readouterr().out.split("\x1b[2J\x1b[H")
    plain = printed[-1].replace("\x1b[0m", "")
    assert "\x1b[30;48;2;" in printed[-1]
    assert re.sub(r"\x1b\[[0-9;]*m", "", plain).strip("\n") == text


def test_render_without_a_mode_warns() -> None:
    """And draws nothing."""
    env = LLMSchedEnv(requests=10)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None


def test_rendering_changes_nothing() -> None:
    """An episode that is looked at is the episode that is not."""
    plain, seen = LLMSchedEnv(requests=40), LLMSchedEnv("rgb_array", requests=40)
    rng = [np.random.default_rng(0) for _ in range(2)]
    plain.reset(seed=0)
    seen.reset(seed=0)
    over = False
    while not over:
        first = plain.step(valid_action(plain, rng[0]))
        seen.render()
        second = seen.step(valid_action(seen, rng[1]))
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:] == second[1:]
        over = first[2]


def test_vector_environment_draws_every_lane() -> None:
    """A frame or a text per lane, each that of the scalar environment."""
    for mode in ("rgb_array", "ansi"):
        envs = LLMSchedVectorEnv(3, render_mode=mode, requests=30)
        with pytest.raises(gym.error.ResetNeeded):
            envs.render()
        envs.reset(seed=4)
        scalar = LLMSchedEnv(mode, requests=30)
        scalar.reset(seed=6)
        for _ in range(5):
            envs.step(np.tile([4, 3], (3, 1)))
            scalar.step((4, 3))
        frames: Any = envs.render()
        assert len(frames) == 3
        np.testing.assert_array_equal(frames[2], scalar.render())


def test_the_environment_imports_no_plotting_library() -> None:
    """Pictures are drawn with NumPy alone."""
    code = (
        "import sys, gymnasium as gym; env = gym.make('llmsched_env:LLMSched-v0', render_mode='rgb_array'); "
        "env.reset(seed=0); env.render(); print(sorted({'matplotlib', 'PIL', 'pygame', 'cv2'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Parts ----------------------------------------------------------------------------------------------------------


def test_every_printable_character_of_the_pictures_has_a_glyph() -> None:
    """And a text is as wide as it says."""
    words = "0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz .,:/%-+=<>()_'|*"
    assert set(words) - {" "} == set(GLYPHS)
    for size in (8.0, 9.5, 20.0):
        mask = text_mask(words, size, 1.9)
        drawn = np.flatnonzero((mask > 0.5).any(axis=0))
        assert abs((drawn[-1] - drawn[0]) - text_width(words, size)) < 0.35 * size
        assert 0.0 <= mask.min() and mask.max() == 1.0


def test_text_is_clipped_at_the_edges() -> None:
    """Partly or wholly outside: the part of a larger picture that is inside."""
    for x, y in ((5, 5), (-15, 5), (35, 5), (5, -6), (5, 17), (-15, -6), (60, 5), (5, 60), (-60, 5), (5, -40)):
        small, large = Canvas(40, 20), Canvas(200, 120)
        small.text(x, y, "Wide", 9)
        large.text(x + 80, y + 50, "Wide", 9)
        assert (large.pixels != BACKGROUND).any()
        np.testing.assert_array_equal(small.pixels, large.pixels[50:70, 80:120])


@pytest.mark.parametrize("bins", [1, 2, 4, 32])
def test_colours_grow_lighter_with_the_bin(bins: int) -> None:
    """Told apart by lightness alone, so without colour vision; all stand out from the ground."""
    linear = (bin_colours(bins) / 255.0) ** 2.2
    light = linear @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()
    assert light.min() > 0.1


def test_words() -> None:
    """Bins and targets as the picture writes them."""
    config = LLMSchedEnv(bins=(0, 64, 65, 256), slo={"ttft": 500, "tpot": 45, "e2el": 12_000}).config
    assert bin_labels(config) == ["< 64", "64", "65-255", ">= 256"]
    assert slo_text(config.slos[0]) == "TTFT <= 500 ms, TPOT <= 45 ms, E2E <= 12 s"
    config = LLMSchedEnv(bins=1, slo={}).config
    assert bin_labels(config) == ["all"] and slo_text(config.slos[0]) == "no target"


def test_frames_of_an_episode_differ() -> None:
    """Time moves in the picture."""
    env = LLMSchedEnv("rgb_array", requests=10)
    frames = []
    rollout(env, 0, steps=1)
    for _ in range(3):
        frames.append(env.render().tobytes())
        env.step((4, 1))
    assert len(set(frames)) == 3
