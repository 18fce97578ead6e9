"""The search of train/retune.py: it goes on after Ctrl-C bit for bit, keeps to its folder, and refuses in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cma")
from llmsched.policies.network import checkpoint
from llmsched.train import retune
from llmsched.train.evolution import SearchSettings
from llmsched.train.retuning import evolving
from llmsched.train.retuning.evolving import Budget, evolve
from llmsched.train.retuning.losses import Losses

SETTINGS = SearchSettings(population=4, sigma=0.1, runs=3)
START = np.linspace(-1.0, 1.0, 5)


def bowl(drawn: list[int], points: Sequence[np.ndarray]) -> list[float]:
    """Losses that depend on the drawn runs."""
    return [float((point**2).sum()) + 0.01 * sum(drawn) for point in points]


def write_trace(file: Path, rows: int = 1_000, gap_s: float = 0.2) -> str:
    """A trace of ``rows`` rows at ``file``; returns its name."""
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(gap_s, rows))
    lengths = rng.integers(20, 800, rows), rng.integers(5, 400, rows)
    lines = [f"{t:.3f},{p},{o}" for t, p, o in zip(times, *lengths, strict=True)]
    file.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    return str(file)


def run(folder: Path, *more: str, trace: str = "", generations: int = 2) -> int:
    """The command on a small trace."""
    trace = trace or write_trace(folder.parent / "trace.csv")
    words = ["--workload", trace, "--servers", "1", "--generations", str(generations), "--seeds", "1"]
    return retune.main([*words, "--out", str(folder), *more])


def test_a_search_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Ctrl-C in any generation; the same centre, and the same file of losses, timing apart."""
    (tmp_path / "whole").mkdir()
    whole, count = evolve(SETTINGS, START, 6, bowl, Budget(1e9, 7), tmp_path / "whole")
    assert count == 7
    for moment in range(7):
        calls = iter(range(100))

        def pulled(drawn: list[int], points: Sequence[np.ndarray], calls=calls, moment=moment) -> list[float]:
            if next(calls) == moment:
                raise KeyboardInterrupt
            return bowl(drawn, points)

        folder = tmp_path / str(moment)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            evolve(SETTINGS, START, 6, pulled, Budget(1e9, 7), folder)
        again, _ = evolve(SETTINGS, START, 6, bowl, Budget(1e9, 7), folder)
        assert again.tobytes() == whole.tobytes()
        assert (folder / evolving.CURVE).read_bytes() == (tmp_path / "whole" / evolving.CURVE).read_bytes()


def test_time_that_was_spent_is_not_given_again(tmp_path: Path) -> None:
    """A folder whose minutes are over makes no further generation, and says the same weights."""
    first, count = evolve(SETTINGS, START, 6, bowl, Budget(1e-9, 100), tmp_path)
    assert count == 1  # one is always made
    never: Any = None
    again, same = evolve(SETTINGS, START, 6, never, Budget(1e-9, 100), tmp_path)
    assert same == 1 and again.tobytes() == first.tobytes()


def test_the_command_leaves_weights_that_compare_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped and continued: the same bytes; what is kept is the candidate or the start, as the verdict says."""
    assert run(tmp_path / "whole") == 0
    capsys.readouterr()
    seen = Losses.__call__
    with pytest.MonkeyPatch.context() as patch:
        calls = iter(range(100))

        def pulled(self: Losses, drawn: list[int], points: Sequence[np.ndarray]) -> list[float]:
            if next(calls) == 1:
                raise KeyboardInterrupt
            return seen(self, drawn, points)

        patch.setattr(Losses, "__call__", pulled)
        assert run(tmp_path / "cut") == 130
    assert "Traceback" not in capsys.readouterr().err and run(tmp_path / "cut") == 0
    for name in ("candidate.npz", "candidate.json", "network.npz", "network.json", "held_out.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    about = json.loads((tmp_path / "whole" / "network.json").read_text())
    kept = checkpoint.load(tmp_path / "whole" / "network").packed
    source = checkpoint.load(tmp_path / "whole" / "candidate") if about["retuned"] else checkpoint.load_shipped("batch")
    assert kept.tobytes() == source.packed.tobytes() and about["generations"] == 2


def test_what_is_kept_is_what_the_verdict_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other factors alone, or with searched weights; each checkpoint carries them, and the answer says which it is."""
    shipped = checkpoint.load_shipped("batch").packed.tobytes()
    monkeypatch.setattr(retune, "choose_overdue", lambda *_: (0.25, 0.5))
    for place, name in ((1, "factors"), (2, "candidate")):
        monkeypatch.setattr(retune.Verdict, "kept", place)
        folder = tmp_path / name
        assert run(folder) == 0
        out = " ".join(capsys.readouterr().out.split())
        kept, own = checkpoint.load(folder / "network"), checkpoint.load(folder / name)
        assert kept.overdue == own.overdue == (0.25, 0.5) and kept.packed.tobytes() == own.packed.tobytes()
        assert (kept.packed.tobytes() == shipped) is (name == "factors")
        said = "generic weights with other factors are kept" if name == "factors" else "The retuned weights are kept"
        assert said in out and "generic 2 and 0.75, factors 0.25 and 0.5, retuned 0.25 and 0.5." in out


def test_factors_that_are_the_generic_ones_are_no_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then one is judged, at 95 %."""
    monkeypatch.setattr(retune, "choose_overdue", lambda *_: retune.OF_NETWORK)
    seen: list[list[str]] = []
    whole = retune.verdict

    def noted(labels: Sequence[str], *more: Any) -> Any:
        seen.append(list(labels))
        return whole(labels, *more)

    monkeypatch.setattr(retune, "verdict", noted)
    assert run(tmp_path / "out") == 0
    assert seen == [["generic", "retuned"]] and not (tmp_path / "out" / "factors.npz").exists()


def test_the_generic_weights_are_kept_where_nothing_can_be_gained(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """At a rate at which nobody misses there is nothing to search for, and it says so."""
    trace = write_trace(tmp_path / "slow.csv", gap_s=100.0)
    assert run(tmp_path / "out", "--goodput", "e2el:60000", trace=trace) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "The generic weights are kept" in out and "nothing was searched" in out
    kept = checkpoint.load(tmp_path / "out" / "network")
    assert kept.packed.tobytes() == checkpoint.load_shipped("batch").packed.tobytes() and not kept.about["retuned"]


def test_a_folder_of_another_search_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another trace, system or seed: its losses are of something else."""
    assert run(tmp_path / "out", generations=1) == 0
    other = write_trace(tmp_path / "other.csv", gap_s=0.3)
    for words, name in ((["--servers", "2"], "system"), (["--seed", "1"], "seed"), (["--sigma", "0.2"], "sigma")):
        with pytest.raises(SystemExit) as stop:
            run(tmp_path / "out", *words, generations=1)
        assert stop.value.code == 2 and f"another {name}" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        run(tmp_path / "out", trace=other, generations=1)
    assert "another trace" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--workload", "SHORT"], "999 rows are too few"),
        (["--workload", "nowhere.csv"], "there is no such file"),
        (["--concurrency", "4", "--requests", "1000"], "closed loops cannot be retuned on"),
        (["--workload", "coding-agent", "--requests", "1000", "--engine", "continuous"], "sessions"),
        (["--duration", "100"], "--duration is not known here"),
        (["--start", "nowhere"], "nowhere"),
        (["--engine", "continuous", "--start", "SHIPPED"], "give a checkpoint for 'continuous'"),
        (["--minutes", "0"], "--minutes"),
        (["--generations", "1.5"], "--generations"),
    ],
)
def test_refusals(words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2, and no folder."""
    files = {"SHORT": write_trace(tmp_path / "short.csv", 999), "SHIPPED": str(checkpoint.SHIPPED["batch"])}
    with pytest.raises(SystemExit) as stop:
        retune.main([*(files.get(word, word) for word in words), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and reason in error and error.count("\n") == 1 and "Traceback" not in error, error
