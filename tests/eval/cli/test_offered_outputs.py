"""What commands leave: every one with all the outputs that it offers, on the smallest work that it accepts.

JSON is one document of numbers that JSON has, no file names this machine, a second start makes no run again, and a
timeline has something to show.
"""

from __future__ import annotations

import importlib
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmsched.command import COMMANDS
from llmsched.eval.figures import style
from llmsched.eval.runs import cells
from tests.eval.analysis import test_analyze
from tests.eval.compare import trace_format
from tests.faults.tools import ROOT, Ended, run
from tests.reality import test_predict_log, test_vllm_parity
from tests.reality.carry_over import test_agreement as agreement
from tests.reality.serving import test_kept
from tests.reality.steps import test_calibrate_steps as steps

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SMALL = {
    "compare": "--policies static,multibin --requests 60 --seeds 2",
    "compare ": "--against server.csv --engine continuous --policies vllm --seeds 1",
    "capacity": "--policies multibin --requests 60 --seeds 2 --multiples 1 --scales 1",
    "analyze": "server.csv --max-seqs 64 --token-budget 1024 --kv-tokens 60000 --tp 2 --policies vllm --seeds 1",
    "profiles": "ideal",
    "estimate": "--model Llama-3.1-8B --gpu h100 --write profile.json",
    "calibrate-steps": "steps.jsonl --out profile.json",
    "predict-log": "--layers layers --engine meta.json --log log.csv --write-profile profile.json",
    "real-figures": "kept --out out",
    "carry-over": "--results carry_over.json",
    "vllm-parity": "systems.json.gz stamps.json --scheduling sync",
    "vllm-policies": "--policies vllm,vllm-sjf --requests 100 --seeds 1",
    "benchmark": "--challenger sjf --requests 100 --seeds 2 --loads 0.9 --cases",
    "returns": "--policies static --seeds 2",
    "decisions": "--policies static --requests 60 --seeds 1 --loads 1",
    "optimum": "--policies static --requests 1000 --seeds 1 --max-batch 2",
    "hindsight": "--challenger dynamic --heuristics static --requests 30 --seeds 2 --trials 10 --loads 1.2 --cases",
    "theory": "--requests 100 --seeds 1 --bin-counts 1,2 --batches 8 --sigmas 0",
    "stress": "--policies static --sizes 100 --at 100 --seeds 1 --server-counts 1 --bin-counts 1 --clocks 1 --loads 1",
    "sensitivity": "--requests 60 --seeds 1 --factors rate,bins --points 4",
    "sla": "--requests 40 --seeds 1 --memories 12000",
}
"""Arguments by command (a blank behind it: another time)."""

NOT_HERE = {
    "calibrate": "measures a model by torch: tests/reality/calibration/test_torch.py",
    "engine-log": "fits for ten seconds: tests/reality/test_engine_log.py",
    "fidelity": "measures a model by torch: tests/reality/test_fidelity.py",
    "real": "needs a server: tests/reality/serving",
    "levels": "searches a capacity: tests/eval/experiments/test_experiments.py",
    "atlas": "reads the published measurements: tests/reality/silicon/test_atlas.py",
    "bench": "measures this machine, which its file names: tests/eval/speed, tests/simulator/test_peer_agreement.py",
    "warmup": "leaves nothing but compiled code: tests/eval/speed/test_warmup.py",
    **dict.fromkeys((name for name in COMMANDS if name.startswith("train ")), "trains: tests/retuning, integrations"),
    "export": "reads an agent of torch: tests/integrations/test_export.py",
}


def whole(fixture: Any) -> Callable[..., Any]:
    """The function of a fixture."""
    return getattr(fixture, "__wrapped__", None) or fixture._get_wrapped_function()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands above read."""
    folder = tmp_path_factory.mktemp("inputs")
    (whole(test_analyze.log)(tmp_path_factory)).rename(folder / "server.csv")
    whole(test_predict_log.files)(folder)
    steps.log_of("affine", steps.AFFINE, folder)
    test_kept.keep(folder / "kept")
    agreement.write(folder / "carry_over.json", agreement.document())
    test_vllm_parity.written(folder, [test_vllm_parity.SYSTEM], [test_vllm_parity.STAMPS])
    return folder


@pytest.fixture
def here(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, but for links to the inputs; no figure is drawn."""
    for file in inputs.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "draw_all", lambda drawings: {})
    return tmp_path


def strict(text: str) -> Any:
    """A JSON document; numbers that JSON does not have are refused."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))


def made_by(name: str, *more: str) -> Ended:
    """A command with its arguments of SMALL."""
    words = SMALL[name].split() + (["1 server"] if SMALL[name].endswith("--cases") else [])
    return run(*words, *more, main=importlib.import_module(COMMANDS[name.strip()][0]).main)


def outputs_of(name: str) -> list[str]:
    """Options for everything that the command offers to leave, as its help says, besides those of SMALL."""
    helped = run("--help", main=importlib.import_module(COMMANDS[name.strip()][0]).main).out
    offered = {"--out": "DIR", "--report": "FILE", "--timeline": "FILE"}
    files = {"--out": "out", "--report": "page.html", "--timeline": "trace.json"}
    given = SMALL[name].split()
    found = [flag for flag, kind in offered.items() if re.search(rf"^ +{flag} {kind}\b", helped, re.M)]
    return [word for flag in found if flag not in given for word in (flag, files[flag])] + ["--json"]


def check_files(here: Path) -> None:
    """Documents are JSON, and nothing says where on this machine the work was done."""
    places = [str(place) for place in (here, ROOT, Path.home(), tempfile.gettempdir())]
    for file in (file for file in here.rglob("*") if file.is_file() and not file.is_symlink()):
        if file.suffix == ".png":
            continue
        text = file.read_text("utf-8")
        if file.suffix in (".json", ".jsonl"):
            for document in text.splitlines() if file.suffix == ".jsonl" else [text]:
                strict(document)
        assert not [place for place in places if f"{place}/" in text], file


@pytest.mark.parametrize("name", SMALL)
def test_what_a_command_leaves(here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Standard output is the document and nothing else; twice the same, the second time without a run."""
    words = outputs_of(name)
    ended = made_by(name, *words)
    assert ended.code == 0 and ended.err == "", ended
    strict(ended.out)
    assert str(here) not in ended.out and f"{tempfile.gettempdir()}/" not in ended.out
    check_files(here)
    if "--timeline" in words:
        events = trace_format.read(Path("trace.json").read_text("utf-8"))
        trace_format.check(events)
        assert any(event["ph"] == "X" for event in events), "a timeline of nothing"
    if "--out" in words:
        stored = {file: file.read_bytes() for file in here.glob("out/*.jsonl")}
        monkeypatch.setattr(cells, "run_cells", lambda todo, *_: iter(()) if not todo else pytest.fail("made again"))
        assert made_by(name, "--out", "out", "--json").out == ended.out
        assert stored == {file: file.read_bytes() for file in here.glob("out/*.jsonl")}


def test_every_command_is_looked_at() -> None:
    """A new command belongs to SMALL, or to NOT_HERE with the reason."""
    assert {name.strip() for name in SMALL} | set(NOT_HERE) == set(COMMANDS)
    assert not {name.strip() for name in SMALL} & set(NOT_HERE)


NOTHING = {"all rejected": "--kv-tokens 20", "cut off at once": "--horizon 0.01", "all give up": "--patience 0.0001"}
"""Systems in which nobody, or nearly nobody, gets an answer."""

FEW = ("sensitivity", "sla")
"""Commands that are tried in one of them only."""


@pytest.mark.figures
@pytest.mark.parametrize(
    ("name", "system"), [*(("compare", system) for system in NOTHING), *((n, "cut off at once") for n in FEW)]
)
def test_nothing_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, system: str) -> None:
    """Undefined numbers are no number anywhere, figures without points are drawn, and no line says nan."""
    monkeypatch.chdir(tmp_path)
    odd = NOTHING[system].split()
    ended = made_by(name, *odd, "--out", "out", "--report", "page.html", "--json")
    assert ended.code == 0 and ended.err == "", ended
    strict(ended.out)
    check_files(tmp_path)
    text = made_by(name, *odd, "--out", "out").out
    assert not re.search(r"\bnan\b", text), text
