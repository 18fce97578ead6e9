"""Values of wrong kinds in every field of the JSON and YAML that describe engines, models and layers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from llmsched.eval import predict_log, profiles, vllm_parity
from llmsched.policies.vllm import settings
from llmsched_env import atlas, datafiles
from llmsched_env.profiles import SCHEMA
from tests.faults.tools import Ended, run
from tests.injection.test_readers import LONGEST_S, assert_well, at_most
from tests.injection.tools import TRIED, damaged, replaced
from tests.reality.calibration import layer_tools
from tests.reality.test_predict_log import meta

STAMPS = Path(__file__).resolve().parents[1] / "reality" / "vllm_stamps"
MODEL = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "head_dim": 128,
}
UNUSUAL = ("num_experts", "n_routed_experts", "moe_intermediate_size", "num_experts_per_tok", "text_config")
"""Fields that a config.json may have too."""


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """A folder with all that eval/predict_log.py reads: layers/, meta.json, config.json, log.csv."""
    layer_tools.write_layers(tmp_path / "layers", layer_tools.frames())
    (tmp_path / "meta.json").write_text(json.dumps(meta()))
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    rng, n = np.random.default_rng(0), 20
    rows = {"arrival_s": np.arange(n), "prompt_tokens": 50 + np.arange(n), "output_tokens": 5 + np.arange(n)}
    pd.DataFrame(rows | {"ttft_s": 0.1 + rng.random(n), "e2e_s": 2 + rng.random(n)}).to_csv(tmp_path / "log.csv")
    assert run(*words_for(tmp_path), main=predict_log.main).code == 0  # compiled before a clock runs
    return tmp_path


def words_for(folder: Path) -> list[str]:
    """The options of eval/predict_log.py for the files in ``folder``."""
    files = {"layers": "layers", "engine": "meta.json", "log": "log.csv", "config": "config.json"}
    return [word for name, file in files.items() for word in (f"--{name}", str(folder / file))]


def predicted(folder: Path) -> Ended:
    """What eval/predict_log.py says."""
    with at_most(LONGEST_S):
        return run(*words_for(folder), main=predict_log.main)


def test_settings_of_an_engine(layers: Path) -> None:
    more = {"data_parallel_size": 1, "tensor_parallel_size": 1, "gpu_memory_utilization": 0.9}
    whole = meta(**more) | {"hardware": {"device_total_memory_bytes": 2**36}}
    whole["resolved_config"]["compilation_config"] = {"cudagraph_capture_sizes": [1, 2]}
    assert predicted(layers).code == 0
    for about, changed in replaced(whole):
        (layers / "meta.json").write_text(json.dumps(changed))
        assert_well(predicted(layers), about)
        TRIED["fields of an engine's settings"] += 1


def test_sizes_of_a_model(layers: Path) -> None:
    for about, changed in replaced(MODEL | dict.fromkeys(UNUSUAL)):
        kept = {name: value for name, value in changed.items() if name not in UNUSUAL or name in about[0]}  # type: ignore[index]
        (layers / "config.json").write_text(json.dumps(kept))
        assert_well(predicted(layers), about)
        TRIED["fields of a model's sizes"] += 1


def test_what_is_said_about_layers(layers: Path) -> None:
    path = layers / "layers" / "meta.yaml"
    fit = {"skew_fit": {"per_tp": {1: {"alpha_default": 0.1}}}}
    for about, changed in replaced(yaml.safe_load(path.read_text()) | fit):
        path.write_text(yaml.safe_dump(changed))
        assert_well(predicted(layers), about)
        TRIED["fields of what is said about layers"] += 1


def profile_documents() -> dict[str, dict[str, Any]]:
    """A profile with everything that a calibration says, and one of closed loops."""
    closed = dict(next(iter(atlas.entries().values()))) | {"schema": SCHEMA}
    folder = datafiles.data_dir("profiles")
    calibrated = json.loads((folder / "amd-epyc-1-thread_tiny.json").read_text())
    return {"calibrated": calibrated, "closed loops": closed}


@pytest.mark.parametrize("kind", ["calibrated", "closed loops"])
def test_fields_of_a_listed_profile(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.json"
    for about, changed in [*replaced(profile_documents()[kind])][::3]:
        path.write_text(json.dumps(changed))
        with at_most(LONGEST_S):
            assert_well(run(path, main=profiles.main), about)
        TRIED[f"fields of profiles, listed ({kind})"] += 1


@pytest.mark.parametrize("kind", ["calibrated", "closed loops"])
def test_fields_of_a_profile_that_is_used(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.json"
    words: list[str | Path] = ["--engine", "continuous", "--policies", "fcfs", "--rate", "1", "--profile", path]
    path.write_text(json.dumps(profile_documents()[kind]))
    assert run(*words).code == 0  # compiled before a clock runs
    for about, changed in [*replaced(profile_documents()[kind])][1::3]:
        path.write_text(json.dumps(changed))
        with at_most(LONGEST_S):
            assert_well(run(*words), about)
        TRIED[f"fields of profiles, used ({kind})"] += 1


def test_settings_of_policies_in_vllm(tmp_path: Path) -> None:
    """JSON and TOML, by bytes and by fields: settings, or one line."""
    fields = {"policy": "sjf:batch=8", "predicted": 3, "seed": 1, "steps": "x.csv", "bins": [10], "max_batch": 8}
    texts = {"x.json": json.dumps(fields), "x.toml": 'policy = "sjf:batch=8"\npredicted = 3\nbins = [10]\n'}
    for name, text in texts.items():
        copies: list[tuple[object, bytes]] = [*damaged(text.encode(), 0), ("deep", b"a = " + b"[" * 100_000)]
        if name.endswith(".json"):
            copies += [(about, json.dumps(changed).encode()) for about, changed in replaced(fields)]
        for about, content in copies:
            path = tmp_path / name
            path.write_bytes(content)
            try:
                settings.from_mapping(settings.read_table(path), name)
            except ValueError as error:
                assert "\n" not in str(error) and len(str(error)) < 2000, (about, error)
            TRIED["settings of policies in vLLM"] += 1


PAIRS = zip("abcdefgh", "bcdefghi", strict=True)
BOMB = "a: &a [x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in PAIRS)
HOSTILE = {
    "a bomb of aliases": (BOMB + "model: *i\n", "an alias"),
    "a bomb of merges": (BOMB.replace("[", "{<<: [").replace("]", "]}"), "meta.yaml"),
    "itself": ("model: &a {x: *a}\n", "an alias"),
    "an object": ("model: !!python/object/apply:os.abort []\n", "meta.yaml"),
    "a name": ("model: !!python/name:os.system\n", "meta.yaml"),
    "deep": ("[" * 50_000, "nested too deeply"),
    "large": ("x: " + "y" * 2**20 + "\n", "at most 1,048,576 are read"),
    "no mapping": ("- 1\n", "not a mapping"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_yaml(layers: Path, kind: str) -> None:
    text, said = HOSTILE[kind]
    (layers / "layers" / "meta.yaml").write_text(text)
    predicted(layers).refused(said)


@pytest.mark.parametrize("name", ["attention.csv", "dense.csv", "per_sequence.csv", "meta.yaml"])
def test_damaged_layers(layers: Path, name: str) -> None:
    path = layers / "layers" / name
    for damage, content in damaged(path.read_bytes(), 0):
        path.write_bytes(content)
        assert_well(predicted(layers), (name, damage))
        TRIED[f"damaged layers ({name})"] += 1


@pytest.mark.parametrize("which", ["systems", "stamps"])
def test_damaged_systems_and_stamps(tmp_path: Path, which: str) -> None:
    """The files of eval/vllm_parity.py, by bytes and by fields."""
    whole = {
        "systems": json.loads(gzip.decompress((STAMPS / "systems_cache.json.gz").read_bytes()))[:1],
        "stamps": json.loads(gzip.decompress((STAMPS / "cache_sync.json.gz").read_bytes()))[:1],
    }
    for name, value in whole.items():
        (tmp_path / name).write_text(json.dumps(value))
    copies: list[tuple[object, bytes]] = list(damaged((tmp_path / which).read_bytes(), 0))
    copies += [(about, json.dumps([changed]).encode()) for about, changed in replaced(whole[which][0])]
    words: list[str | Path] = [tmp_path / "systems", tmp_path / "stamps", "--scheduling", "sync", "--prefix-cache"]
    assert run(*words, main=vllm_parity.main).code == 0
    for about, content in copies:
        (tmp_path / which).write_bytes(content)
        with at_most(LONGEST_S):
            assert_well(run(*words, main=vllm_parity.main), about)
        TRIED[f"damaged {which} of vLLM"] += 1
