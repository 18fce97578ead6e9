"""Damaged agents: what train/export.py wrote, and the zip of Stable-Baselines3 that it reads."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmsched_env.envs.scalar import LLMSchedEnv
from tests.faults.tools import Ended, run
from tests.injection.test_readers import LONGEST_S, assert_well, at_most
from tests.injection.tools import TRIED, damaged, replaced
from tests.policies.agent.tools import random_agent

ENDS = (".npz", ".json")


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """An agent that decides in the default scenario, and a copy of its files in ``whole``."""
    stem = tmp_path / "mine"
    random_agent(stem, LLMSchedEnv().config)
    (tmp_path / "whole").mkdir()
    for end in ENDS:
        shutil.copy(f"{stem}{end}", tmp_path / "whole")
    assert run("--policies", f"agent:path={stem}").code == 0  # compiled before a clock runs
    return stem


def decided(stem: Path) -> Ended:
    """What a small comparison says of the agent."""
    with at_most(LONGEST_S):
        return run("--policies", f"agent:path={stem}")


@pytest.mark.parametrize("end", ENDS)
def test_damaged_agents(agent: Path, end: str) -> None:
    """Either file."""
    whole = (agent.parent / "whole" / f"mine{end}").read_bytes()
    for seed in range(2):
        for damage, content in damaged(whole, seed):
            Path(f"{agent}{end}").write_bytes(content)
            assert_well(decided(agent), (end, damage, seed))
            TRIED[f"damaged agents ({end})"] += 1


def test_fields_of_an_agent(agent: Path) -> None:
    """Values of other kinds in its JSON."""
    whole = json.loads((agent.parent / "whole" / "mine.json").read_text())
    for about, changed in replaced({name: value for name, value in whole.items() if name != "observation"}):
        Path(f"{agent}.json").write_text(json.dumps(changed | {"observation": whole["observation"]}))
        assert_well(decided(agent), about)
        TRIED["fields of an agent"] += 1


def sizes() -> tuple[int, int, int]:
    """(inputs, bins with no bin and any bin, sizes) of the default environment."""
    from llmsched.policies.agent.fit import face_of_environment

    face = face_of_environment("LLMSched-v0")
    return face.inputs, *face.parts  # type: ignore[return-value]


def saved(weights: Any = None, **changes: Any) -> bytes:
    """A zip as Stable-Baselines3 writes it, of a small network of PPO."""
    import torch

    inputs, *parts = sizes()
    body, out = "mlp_extractor.policy_net.0", sum(parts)
    shapes = {
        f"{body}.weight": (4, inputs),
        f"{body}.bias": (4,),
        "action_net.weight": (out, 4),
        "action_net.bias": (out,),
    }
    content = io.BytesIO()
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()} if weights is None else weights, content)
    data: dict[str, Any] = {
        "policy_class": {":serialized:": "gASV", "__module__": "stable_baselines3.common.policies"},
        "observation_space": {":type:": "<class 'gymnasium.spaces.box.Box'>"},
        "action_space": {":type:": "<class 'gymnasium.spaces.multi_discrete.MultiDiscrete'>", "nvec": str(parts)},
        "policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"},
        "clip_range": {":serialized:": "gASV"},
    }
    return zipped(json.dumps(data | changes).encode(), content.getvalue())


def zipped(data: bytes, weights: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    """The zip of these two entries."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as archive:
        archive.writestr("data", data)
        archive.writestr("policy.pth", weights)
    return content.getvalue()


def exported(folder: Path, content: bytes) -> Ended:
    """What train/export.py says of a zip."""
    from llmsched.train import export

    path = folder / "agent.zip"
    path.write_bytes(content)
    out = folder / "out"
    with at_most(LONGEST_S):
        ended = run(path, "--env", "LLMSched-v0", "--out", out / "mine", main=export.main)
    assert path.read_bytes() == content
    assert ended.code == 0 or not out.exists(), ended
    shutil.rmtree(out, ignore_errors=True)
    return ended


def hostile() -> Iterator[tuple[str, bytes]]:
    """Zips that are whole, and hold something else than a network."""
    import torch

    inputs = sizes()[0]
    name = "mlp_extractor.policy_net.0.weight"
    for kind, tensor in {
        "expanded": torch.zeros(1).expand(2**40),
        "sparse": torch.zeros(4, inputs).to_sparse(),
        "whole numbers": torch.zeros(4, inputs, dtype=torch.int64),
        "a list": [1.0],
        "not finite": torch.full((4, inputs), float("nan")),
        "no rows": torch.zeros(0, inputs),
    }.items():
        yield kind, saved({name: tensor})
    yield "no names", saved([torch.zeros(3)])
    yield "a bomb", zipped(b"[" + b"0," * 2**27 + b"0]", b"", zipfile.ZIP_DEFLATED)
    yield "a bomb of lists", zipped(b"[" + b"[]," * 2**26 + b"0]", b"", zipfile.ZIP_DEFLATED)
    yield "much data", zipped(b"[" + b"[]," * (5 * 2**20) + b"0]", b"", zipfile.ZIP_DEFLATED)
    yield "deep data", zipped(b"[" * 100_000, b"")
    yield "no zip in the zip", zipped(b"{}", b"garbage")
    yield "a pickle", zipped(b"{}", b"cos\nsystem\n(S'false'\ntR.")


def test_damaged_zips(tmp_path: Path) -> None:
    """Bytes, fields of its texts, and whole zips of something else: nothing is exported of them but a network."""
    pytest.importorskip("torch", reason="what the command needs is not installed")
    whole = saved()
    assert exported(tmp_path, whole).code == 0
    copies: list[tuple[object, bytes]] = [*hostile()]
    copies += [(about, content) for seed in range(2) for about, content in damaged(whole, seed)]
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        document, weights = json.loads(archive.read("data")), archive.read("policy.pth")
    copies += [(about, zipped(json.dumps(changed).encode(), weights)) for about, changed in replaced(document)]
    copies += [(("weights", about), zipped(json.dumps(document).encode(), c)) for about, c in damaged(weights, 0)]
    for about, content in copies:
        assert_well(exported(tmp_path, content), about)
        TRIED["damaged zips of Stable-Baselines3"] += 1
