"""train/curves.py: what it reads from the logs of both kinds of runs, and the curve of a search that was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.logger import configure

from llmsched.train import curves
from llmsched.train.callback import decision_mix
from llmsched_env.envs.spaces import ladder

ROOT = Path(__file__).resolve().parents[2]


def logged(folder: Path, steps: range, add: float = 0.0) -> Path:
    """A run that logged the step + ``add`` as its return, as train/ppo.py logs."""
    logger = configure(str(folder), ["tensorboard"])
    for step in steps:
        logger.record("episodes/return", step + add)
        if step % 2 == 0:
            logger.record("validation/log_ratio", -0.1 * step)
        logger.dump(step)
    logger.close()
    return folder


def test_scalars_come_back_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    kind, found = curves.read_run(logged(tmp_path, range(1, 9)))
    assert kind == "ppo"
    x, y = found["episodes/return"]
    assert x.tolist() == y.tolist() == list(range(1, 9))
    assert found["validation/log_ratio"][0].tolist() == [2, 4, 6, 8]
    first = next(tmp_path.glob("events*"))
    first.rename(tmp_path / "events.out.tfevents.1.first")  # two runs in one second would share a name
    x, y = curves.read_run(logged(tmp_path, range(6, 12), add=0.5))[1]["episodes/return"]
    assert x.tolist() == list(range(1, 12))
    assert y.tolist() == [1, 2, 3, 4, 5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5]


def test_several_runs_are_a_mean_and_a_range() -> None:
    one = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])
    other = np.array([0.0, 2.0, 4.0]), np.array([4.0, 4.0, 4.0])
    x, mean, low, high = curves.combine([one, other])
    assert x.tolist() == [1, 2, 3] and mean.tolist() == [2.0, 2.5, 3.0]
    assert low.tolist() == [0, 1, 2] and high.tolist() == [4, 4, 4]


def test_long_curves_are_means_of_parts() -> None:
    x = np.arange(1000.0)
    thin_x, thin_y = curves.thin((x, np.where(x % 2 == 0, x, np.nan)))
    assert (
        len(thin_x) == curves.POINTS and np.allclose(thin_x, thin_y) and thin_y.mean() == pytest.approx(499, rel=0.01)
    )


@pytest.mark.parametrize("kind", ["ppo", "search"])
def test_a_picture_of_two_seeds(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    drawn: list = []
    plain = curves.draw_panel

    def noted(axes: Any, *rest: Any) -> None:
        drawn.append(axes)
        plain(axes, *rest)

    monkeypatch.setattr(curves, "draw_panel", noted)
    folders = [tmp_path / "a", tmp_path / "b"]
    for i, folder in enumerate(folders):
        if kind == "ppo":
            logged(folder, range(1, 9), add=i)
        else:
            folder.mkdir()
            (folder / "curve.csv").write_text(f"generation,mean,best,sigma\n1,{2 + i},1,0.3\n2,1,{0.5 * i},0.2\n")
    out = tmp_path / "curves.png"
    assert curves.main([*map(str, folders), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and len(drawn) == len(curves.KINDS[kind].panels)
    first = drawn[0].get_lines()[0]
    assert first.get_ydata().tolist() == ([x + 0.5 for x in range(1, 9)] if kind == "ppo" else [2.5, 1.0])


def test_refusals_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "curve.csv").write_text("generation,mean,best,sigma\n1,1,1,1\n")
    run = logged(tmp_path / "run", range(1, 3))
    for words, said in (([tmp_path / "none"], "holds no run"), ([tmp_path, run], "one kind at a time")):
        with pytest.raises(SystemExit) as stop:
            curves.main([*map(str, words), "--out", str(tmp_path / "x.png")])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("curves.py: error: ") and said in error and error.count("\n") == 1


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = logged(tmp_path / "run", range(1, 5))
    command = [sys.executable, "train/curves.py", str(run), "--out", str(tmp_path / "x.png")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).returncode == 0


def test_the_decision_mix_names_what_was_done() -> None:
    """Bins 0 and 1 and any; sizes 1, 2, ..., 64, target."""
    rungs = len(ladder(64))
    assert ladder(64)[3] == 8
    actions = [0, 1, 1 + 3, 1 + 4, 1 + rungs + rungs - 1, 1 + 2 * rungs]  # wait; 1, 8, 16 of bin 0; target; 1 of any
    mix = dict(decision_mix(np.array(actions), 2, 64))
    assert mix == pytest.approx({"wait": 1 / 6, "target": 0.2, "any": 0.2, "size_to_8": 0.6, "size_above": 0.2})
    assert dict(decision_mix(np.zeros(3, np.int64), 2, 64))["wait"] == 1.0
    lines = {line.curve for panel in curves.TRAINING for line in panel.lines}
    assert {f"decisions/{name}" for name in mix} <= lines


def test_curves_write_where_a_file_can_be(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A link, a folder and a device in the place of the picture stay what they are."""
    (tmp_path / "curve.csv").write_text("generation,mean,best,sigma\n1,1,1,1\n2,1,1,1\n")
    (tmp_path / "target.png").write_bytes(b"kept")
    (tmp_path / "link.png").symlink_to(tmp_path / "target.png")
    for place in (tmp_path / "link.png", tmp_path, Path("/dev/null"), tmp_path / "gone" / "x.png"):
        with pytest.raises(SystemExit) as stop:
            curves.main([str(tmp_path), "--out", str(place)])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1 and "cannot be written" in error, error
    assert (tmp_path / "target.png").read_bytes() == b"kept" and (tmp_path / "link.png").is_symlink()


def test_damaged_curves_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Empty, torn, without numbers, with generations that do not ascend, no text at all."""
    for content in (b"", b"generation,mean\n", b"generation,mean\n1\n", b"generation,mean\n1,x\n", b"\xff\x00" * 50):
        (tmp_path / "curve.csv").write_bytes(content)
        with pytest.raises(SystemExit) as stop:
            curves.main([str(tmp_path), "--out", str(tmp_path / "x.png")])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith("curves.py: error: ") and error.count("\n") == 1, error
    assert not (tmp_path / "x.png").exists()
