"""Damaged copies of every kind of file against every reader: a result, or one line and exit code 2; nothing hangs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from llmsched.eval import atlas, compare, engine_log, profiles, reality, silicon
from llmsched.eval.silicon.points import NEEDED
from llmsched.policies.network.checkpoint import SHIPPED
from llmsched_env import datafiles
from tests.faults.test_traces import BENCHMARK, PLAIN, json_lines
from tests.faults.tools import run
from tests.injection.tools import TRIED, damaged

LONGEST_S = 10


class TooLongError(BaseException):
    """The inside took too long."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail where the inside takes longer: it is interrupted as by Ctrl-C, every second until it ends.

    An exception that the alarm itself raised could come where Numba asks Python for the address of an argument, which
    no command can survive; Ctrl-C is held back there.
    """
    late: list[int] = []

    def stop(number: int, _: object) -> None:
        late.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    except KeyboardInterrupt:
        if not late:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if late:
            raise TooLongError(f"more than {seconds} s") from None


LOG = "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s,scale\n" + "".join(
    f"{0.3 * i},{50 + i},{20 + i % 7},{0.1 + 0.01 * (i % 5)},{2 + 0.1 * (i % 9)},{1 + i % 2}\n" for i in range(60)
)
LOOPS = [(p, o, c) for p, o in ((200, 40), (100, 100), (600, 30)) for c in (1, 3, 8)]
SAID = "llama,h100_sxm,vllm,0.1,fp8,1,1,1,1,1,fp8,fp8,agg,x silicon_concurrency={}; measured=2026-01-01T"
POINTS = f"{','.join(NEEDED)}\n" + "".join(f"{SAID.format(c)},{p},{o},{20 + p},9.5\n" for p, o, c in LOOPS)
"""Measured points of a configuration."""

Main = Callable[[Sequence[str]], int]
KINDS: dict[str, tuple[str, str | bytes, list[str], Main]] = {  # name, content, words before the path, command
    "trace, CSV": ("x.csv", PLAIN, ["--workload"], compare.main),
    "trace, JSON lines": ("x.jsonl", json_lines(), ["--workload"], compare.main),
    "trace, benchmark": ("x.json", json.dumps(BENCHMARK), ["--workload"], compare.main),
    "profile": ("p.json", (datafiles.data_dir("profiles") / "ideal.json").read_bytes(), ["--profile"], compare.main),
    "profile, listed": ("p.json", (datafiles.data_dir("profiles") / "ideal.json").read_bytes(), [], profiles.main),
    "log": ("log.csv", LOG, ["--max-seqs", "8", "--token-budget", "512", "--folder"], engine_log.main),
    "points": ("points.csv", POINTS, ["--points"], atlas.main),
}


FITS = {"log": (reality.engine_log, "predict_runs"), "points": (silicon.experiment, "fit_all")}
"""Where a fit begins that takes a minute, by kind: every file that is read whole is fitted."""


class ReachedError(BaseException):
    """The file was read, and the fit begins."""


def reached(*_: object) -> None:
    """In place of a fit."""
    raise ReachedError


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in the file."""
    if kind in FITS:
        monkeypatch.setattr(*FITS[kind], reached)
    name, content, words, main = KINDS[kind]
    whole = content.encode() if isinstance(content, str) else content
    path = tmp_path / name
    for seed in range(3):
        for damage, copy in damaged(whole, seed):
            path.write_bytes(copy)
            ended = None
            with at_most(LONGEST_S), suppress(ReachedError):
                ended = run(*words, path, main=main)
            if ended is not None:
                assert_well(ended, (kind, damage, seed))
            TRIED[f"damaged files ({kind})"] += 1


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_damaged_weights(tmp_path: Path, suffix: str) -> None:
    """Refused, or, where the damage does not matter, run."""
    stem = tmp_path / "net"
    for seed in range(3):
        whole = SHIPPED["batch"].with_name(SHIPPED["batch"].name + suffix).read_bytes()
        for damage, copy in damaged(whole, seed):
            for end in (".npz", ".json"):
                shutil.copy(SHIPPED["batch"].with_name(SHIPPED["batch"].name + end), f"{stem}{end}")
            Path(f"{stem}{suffix}").write_bytes(copy)
            with at_most(LONGEST_S):
                ended = run("--policies", f"network:path={stem}")
            assert_well(ended, (suffix, damage, seed))
            TRIED[f"damaged weights ({suffix})"] += 1


@pytest.mark.parametrize("name", ["cells.jsonl", "results.csv", "summary.json"])
def test_damaged_results(tmp_path: Path, name: str) -> None:
    """A damaged folder of results costs the damaged runs and nothing else: the same rows come out."""
    out = tmp_path / "out"
    words: list[str | Path] = ["--seeds", "3", "--out", out, "--json"]
    first = run(*words)
    whole = (out / name).read_bytes()
    for seed in range(3):
        for damage, copy in damaged(whole, seed):
            (out / name).write_bytes(copy)
            with at_most(LONGEST_S):
                ended = run(*words)
            assert ended.code == 0 and shown(ended.out) == shown(first.out), (name, damage, ended)
            TRIED[f"damaged results ({name})"] += 1


def shown(text: str) -> Any:
    """The summary without the time that the runs took."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(item) for key, item in value.items() if key != "wall_s"}
        return [without(item) for item in value] if isinstance(value, list) else value

    return without(json.loads(text))


def assert_well(ended: Any, about: object) -> None:
    """Exit code 0, or 2 with one short line."""
    assert ended.code in (0, 2), (about, ended)
    if ended.code == 2:
        assert ended.out == "" and ended.err.count("\n") == 1 and "error: " in ended.err, (about, ended)
        assert len(ended.err) < 3000 and "Traceback" not in ended.err, about


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_every_option_that_takes_a_file_refuses_what_is_none(tmp_path: Path) -> None:
    """A pipe, a device, a folder, a dangling link; as input and as output."""
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "gone")
    places = [tmp_path / "pipe.py", tmp_path / "dangling.py", tmp_path, Path("/dev/null"), Path("/dev/zero")]
    for place in places:
        options = ("--workload", "--profile", "--policies", "--report", "--timeline", "--out")
        for option in options if place != tmp_path else options[:-1]:
            given: list[str | Path] = [option, f"{place}.py:x" if option == "--policies" else place]
            with at_most(LONGEST_S):
                run(*given).refused()
            TRIED["places that are no files"] += 1
        with at_most(LONGEST_S):
            run("--policies", f"{tmp_path}/pipe.py:mine").refused("a pipe")
