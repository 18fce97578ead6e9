"""The command that holds the engine beside vLLM's scheduler: the smallest systems, differences found, files refused."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmsched.eval.reality.vllm_parity import admissible, divergence
from llmsched.eval.reality.vllm_systems import Stamps, System
from llmsched.eval.vllm_parity import main

FOLDER = Path(__file__).parent / "vllm_stamps"
COEFFICIENTS = [10.0, 1.0, 0.01, 10.0, 0.1, 0.0]
"""An iteration of one member with x tokens of context takes 11 ms and 0.01 ms a token; a short prompt 10 ms."""

SYSTEM = {
    "blocks": 10,
    "seqs": 8,
    "budget": 64,
    "coef_ms": COEFFICIENTS,
    "arrival": [0.0],
    "prompt": [15],
    "output": [2],
    "regime": "by hand",
}
STAMPS = {"first": [0.01], "done": [0.02116], "preempted": [0], "stuck": False}


def written(folder: Path, systems: Any, stamps: Any) -> list[str]:
    """The two files, the first packed."""
    (folder / "systems.json.gz").write_bytes(gzip.compress(json.dumps(systems).encode()))
    (folder / "stamps.json").write_text(json.dumps(stamps))
    return [str(folder / "systems.json.gz"), str(folder / "stamps.json"), "--scheduling", "sync"]


def found(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    """What ``--json`` prints."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line of a refusal."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_every_stamp_of_vllm(capsys, scheduling):
    """440 systems, a third of them with preemptions; the other mode's stamps are not equal."""
    files = [str(FOLDER / f"{name}.json.gz") for name in ("systems", scheduling)]
    assert found(capsys, [*files, "--scheduling", scheduling]) == {
        "systems": 440,
        "equal": 440,
        "first_divergence": None,
    }
    other = {"sync": "async", "async": "sync"}[scheduling]
    assert found(capsys, [*files, "--scheduling", other])["equal"] < 150


@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_every_stamp_and_hit_of_vllm_with_its_prefix_cache(capsys, scheduling):
    """120 systems with shared beginnings, conversations and equal prompts; other modes are not equal."""
    files = [str(FOLDER / f"{name}.json.gz") for name in ("systems_cache", f"cache_{scheduling}")]
    assert found(capsys, [*files, "--scheduling", scheduling, "--prefix-cache"]) == {
        "systems": 120,
        "equal": 120,
        "first_divergence": None,
    }
    other = {"sync": "async", "async": "sync"}[scheduling]
    assert found(capsys, [*files, "--scheduling", other, "--prefix-cache"])["equal"] < 40
    assert found(capsys, [*files, "--scheduling", scheduling])["equal"] < 60


@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_who_does_not_fit_alone_holds_up_vllm(tmp_path, capsys, scheduling):
    """One block, a request that needs two in its third token, and one behind it that vLLM never serves."""
    blocked = SYSTEM | {"blocks": 1, "arrival": [0.0, 0.001], "prompt": [15, 1], "output": [3, 1]}
    stamps = {"first": [0.01, None], "done": [None, None], "preempted": [1, 0]}
    arguments = written(tmp_path, [blocked], [stamps])
    assert found(capsys, [*arguments[:-1], scheduling])["equal"] == 1


def test_equal_systems_are_counted(tmp_path, capsys):
    arguments = written(tmp_path, [SYSTEM, SYSTEM], [STAMPS, STAMPS])
    assert found(capsys, arguments) == {"systems": 2, "equal": 2, "first_divergence": None}
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == ["systems 2", "equal   2", "No divergence."]


@pytest.mark.parametrize(
    ("change", "stamp"),
    [
        ({"first": [0.01 + 2e-9]}, "first"),
        ({"done": [0.0211]}, "done"),
        ({"done": [None]}, "done"),
        ({"preempted": [1]}, "preempted"),
    ],
)
def test_the_first_divergence_is_named(tmp_path, capsys, change, stamp):
    arguments = written(tmp_path, [SYSTEM] * 3, [STAMPS, STAMPS | change, STAMPS | {"done": [9.0]}])
    seen = found(capsys, arguments)
    assert (seen["systems"], seen["equal"]) == (3, 1)
    first = seen["first_divergence"]
    assert (first["system"], first["request"], first["stamp"]) == (1, 0, stamp)
    assert first["vllm"] == (STAMPS | change)[stamp][0]
    assert main(arguments) == 0
    assert f"system 1, request 0, '{stamp}'" in capsys.readouterr().out


def system(**changes: Any) -> System:
    """The system by hand with changes, as read."""
    row: dict[str, Any] = {name: value for name, value in SYSTEM.items() if name != "regime"}
    lists: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return replace(System(**lists), **changes)


def test_what_does_not_fit_alone_is_excepted_and_nothing_else():
    # 2 blocks: request 1 would need a third, so vLLM holds it and all later ones for ever
    blocked = system(blocks=2, arrival=(0.0, 0.1, 0.2), prompt=(3, 16, 3), output=(1, 18, 1))
    vllm = Stamps((0.01, 0.11, None), (0.01, None, None), (0, 1, 0))
    ours = Stamps((0.01, 0.11, 0.3), (0.01, None, 0.3), (0, 0, 0))
    assert divergence(0, blocked, vllm, ours) is None
    assert divergence(0, blocked, vllm, replace(ours, first=(0.01, 0.12, 0.3))) is not None
    # with a token less it fits: nothing is excepted
    assert divergence(0, replace(blocked, output=(1, 17, 1)), vllm, ours) is not None
    assert admissible(replace(blocked, prompt=(3, 33, 3))).arrival == (0.0,)
    assert admissible(replace(blocked, prompt=(3, 32, 3))).arrival == (0.0, 0.1, 0.2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks": 0}, "'blocks' is 0: give a whole number from 1"),
        ({"seqs": True}, "'seqs' is True"),
        ({"budget": 4}, "token_budget=4 is less than max_batch=8"),
        ({"coef_ms": [1.0]}, "'coef_ms' has 1 values: give 6"),
        ({"coef_ms": [float("nan")] * 6}, "'coef_ms' holds nan at place 0"),
        ({"arrival": []}, "'arrival' is empty"),
        ({"arrival": [1.0, 0.5], "prompt": [1, 1], "output": [1, 1]}, "not in ascending order"),
        ({"prompt": [0]}, "'prompt' holds 0 at place 0: give whole numbers from 1"),
        ({"output": [1, 2]}, "'output' has 2 values: give 1"),
        ({"output": None}, "'output' is missing"),
    ],
)
def test_systems_are_checked(tmp_path, capsys, change, said):
    text = refusal(capsys, written(tmp_path, [SYSTEM, SYSTEM | change], [STAMPS, STAMPS]))
    assert said in text
    assert "system 1" in text


def test_files_are_checked(tmp_path, capsys):
    assert "stamps of 1 systems for 2" in refusal(capsys, written(tmp_path, [SYSTEM] * 2, [STAMPS]))
    assert "give a JSON list" in refusal(capsys, written(tmp_path, {}, [STAMPS]))
    assert "'first' holds 'x'" in refusal(capsys, written(tmp_path, [SYSTEM], [STAMPS | {"first": ["x"]}]))
    arguments = written(tmp_path, [SYSTEM], [STAMPS])
    assert "there is no such file" in refusal(capsys, [str(tmp_path / "none.json"), *arguments[1:]])
    (tmp_path / "systems.json.gz").write_bytes(gzip.compress(b"[1")[:-3])
    assert "gzip is damaged" in refusal(capsys, arguments)


def test_what_a_prefix_cache_needs(tmp_path, capsys):
    """The tokens of every prompt, and what vLLM found."""
    known = SYSTEM | {"tokens": [list(range(15))]}
    for system, stamps, said in (
        (SYSTEM, STAMPS, "'tokens' is missing"),
        (known | {"tokens": [[1, 2]]}, STAMPS, "'tokens' of request 0 has 2 values: give 15"),
        (known | {"tokens": [["a"] * 15]}, STAMPS, "holds what is no id"),
        (known, STAMPS, "'cached' is missing"),
    ):
        assert said in refusal(capsys, [*written(tmp_path, [system], [stamps]), "--prefix-cache"])
    arguments = [*written(tmp_path, [known], [STAMPS | {"cached": [16]}]), "--prefix-cache"]
    assert found(capsys, arguments)["first_divergence"]["stamp"] == "cached"
    assert "--scheduling" in refusal(capsys, arguments[:2])
