"""Layer tables: added up as by hand, and refused in one line where they are wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llmsched.eval.calibration.layers.files import read_layers
from llmsched.eval.calibration.layers.summation import Deployment, LayerSum, Link, simplified, thinned
from llmsched.eval.calibration.model_shape import KNOWN, ModelShape, known_shape, read_config
from tests.reality.calibration import layer_tools as made

LLAMA, QWEN = KNOWN["Llama-3.1-8B"], KNOWN["Qwen3-30B-A3B"]
LINK = Link(1e9, 1e-5)


def summed(folder: Path, shape: ModelShape = LLAMA, gpus: int = 1, replicas: int = 1) -> LayerSum:
    """The sum of tables with the known laws."""
    tables = made.write_layers(folder, made.frames(experts=bool(shape.experts)))
    return LayerSum(read_layers(tables), Deployment(shape, LINK, gpus, replicas, 2048, [500.0]))


def test_a_dense_model_by_hand(tmp_path):
    """Five parts a layer (layernorm twice: six), the embedding once, the output layer, attention."""
    whole = summed(tmp_path / "layers")
    profile = whole.profile("p", math.inf)
    for batch, context in ((1, 256), (4, 1024), (64, 4096), (16, 700)):
        part = made.DENSE_US + made.DENSE_TOKEN_US * batch
        attention = made.KERNEL_US + made.MEMBER_TOKEN_US * batch * context
        wanted = 32 * (6 * part + attention) + part + made.SEQUENCE_US * batch
        assert whole.decode_us(batch, context) == pytest.approx(wanted)
        assert profile.decode_step_ms(batch, batch * context) == pytest.approx(wanted / 1e3, rel=1e-6)
    part = made.DENSE_US + made.DENSE_TOKEN_US * 512
    wanted = 32 * (6 * part + made.KERNEL_US + made.SQUARE_US * 512**2) + part + made.SEQUENCE_US
    assert profile.prefill_ms([512]) == pytest.approx(wanted / 1e3, rel=1e-3)


def test_gpus_that_share_a_layer_exchange_by_a_ring(tmp_path):
    """Two exchanges a layer and one after the embedding."""
    one, two = summed(tmp_path / "one"), summed(tmp_path / "two", gpus=2)
    exchange = 2e6 * (LINK.latency_s + 64 * 4096 * 2 / 2 / LINK.bytes_per_s)
    assert two.decode_us(64, 256) - one.decode_us(64, 256) == pytest.approx((2 * 32 + 1) * exchange)


def test_experts_are_read_as_they_are_touched(tmp_path):
    whole = summed(tmp_path / "layers", QWEN)
    touched = 128 * (1 - (1 - 8 / 128) ** 16)
    assert whole.experts_us(16, 16) == pytest.approx(48 * made.EXPERT_US * touched)


def test_replicas_that_share_experts_read_a_part_each_and_gather(tmp_path):
    whole = summed(tmp_path / "layers", QWEN, replicas=2)
    touched = 64 * (1 - (1 - 8 / 128) ** 32)
    gather = 2 * 1e6 * (LINK.latency_s + 16 * 2048 * 2 / LINK.bytes_per_s)
    assert whole.experts_us(32, 16) == pytest.approx(48 * (made.EXPERT_US * touched + gather))
    profile = whole.profile("p", 1e6)
    assert profile.tensor_parallel == 2
    assert profile.decode_step_ms(32, 32 * 256) == pytest.approx(whole.decode_us(32, 256) / 1e3, rel=1e-6)


def test_padding_to_graphs_is_the_mean_over_a_gap(tmp_path):
    deployment = Deployment(LLAMA, LINK, 1, 1, 2048, [1.0], (1, 2, 4, 8, 16))
    assert [deployment.padding(t) for t in (1, 2, 3, 4, 8, 9, 16, 17)] == [0, 0, 0.5, 0.5, 1.5, 3.5, 3.5, 0]


def test_the_longest_of_a_batch_against_draws(tmp_path):
    lengths = np.random.default_rng(1).lognormal(6, 0.8, 300)
    tables = read_layers(made.write_layers(tmp_path / "layers", made.frames()))
    whole = LayerSum(tables, Deployment(LLAMA, LINK, 1, 1, 2048, lengths.tolist()))
    draws = np.random.default_rng(2).choice(lengths, (20_000, 32)).max(axis=1)
    assert whole.longest_to_mean(32) == pytest.approx(draws.mean() / lengths.mean(), rel=0.02)


def test_a_curve_keeps_its_ends_and_its_shape():
    x = np.arange(1.0, 200.0)
    points, values = simplified(x.tolist(), np.maximum(10.0, x).tolist(), 4)
    assert points[0] == 1.0 and points[-1] == 199.0 and len(points) == 4
    np.testing.assert_allclose(np.interp(x, points, values), np.maximum(10.0, x), rtol=0.02)
    assert thinned([1, 2, 4, 8, 16], 3) == [1, 4, 16] and thinned([1, 2], 3) == [1, 2]


Change = Callable[[dict[str, pd.DataFrame]], None]


def cell(name: str, column: str, value: float | str) -> Change:
    """Another value in the second row of a file."""

    def change(tables: dict[str, pd.DataFrame]) -> None:
        tables[name] = tables[name].astype({column: object})
        tables[name].loc[1, column] = value

    return change


def renamed(tables: dict[str, pd.DataFrame]) -> None:
    tables["dense.csv"] = tables["dense.csv"].rename(columns={"time_us": "time_ms"})


def repeated(tables: dict[str, pd.DataFrame]) -> None:
    tables["dense.csv"] = pd.concat([tables["dense.csv"], tables["dense.csv"].iloc[:1]])


def holed(tables: dict[str, pd.DataFrame]) -> None:
    tables["attention.csv"] = tables["attention.csv"].drop(index=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            cell("dense.csv", "time_us", -2.0),
            r"dense.csv, row 2: time_us=-2.0 is not allowed: give a number",
        ),
        (cell("dense.csv", "time_us", 0.0), r"dense.csv, row 2: time_us=0.0 is not allowed: give microseconds above 0"),
        (cell("attention.csv", "kv_decode", "x"), r"attention.csv, row 2: kv_decode=x is not allowed"),
        (renamed, r"dense.csv: no column time_us; times are in time_us, microseconds. It has layer, tokens, time_ms"),
        (repeated, r"dense.csv, row 43: the point layer=embedding, tokens=1.0 is there twice"),
        (holed, r"no time at batch 1, context 256: a table needs every pair"),
        (cell("dense.csv", "layer", "conv"), r"dense.csv: the layer conv is not known"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, change, message):
    tables = made.frames(experts=False)
    change(tables)
    folder = made.write_layers(tmp_path / "layers", tables)
    with pytest.raises(ValueError, match=message) as caught:
        LayerSum(read_layers(folder), Deployment(LLAMA, LINK, 1, 1, 2048, [1.0]))
    assert "\n" not in str(caught.value)


def test_tables_of_another_kind_of_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no moe.csv, but Qwen3-30B-A3B has 128 experts"):
        tables = read_layers(made.write_layers(tmp_path / "layers", made.frames()))
        LayerSum(tables, Deployment(QWEN, LINK, 1, 1, 2048, [1.0]))


CONFIG = {
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}


def test_a_config_gives_the_shape_that_is_known(tmp_path):
    path = tmp_path / "Qwen3-30B-A3B" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    assert read_config(path) == QWEN
    dense = {key: value for key, value in CONFIG.items() if "experts" not in key}
    path.write_text(json.dumps(dense))
    assert read_config(path).intermediate == 6144 and read_config(path).experts == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({name: None}, rf"field '{name}' is missing") for name in list(CONFIG)[:4]),
        ({"hidden_size": "2048"}, r"hidden_size='2048' is not allowed: give a whole number from 1"),
        ({"kv_lora_rank": 512}, r"kv_lora_rank=512 is an attention that is not modelled"),
        ({"num_experts_per_tok": None}, r"field 'num_experts_per_tok' is missing"),
    ],
)
def test_a_config_without_the_fields_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in (CONFIG | change).items() if v is not None}))
    with pytest.raises(ValueError, match=message):
        read_config(path)


def test_models_by_name():
    assert known_shape("meta-llama/Llama-3.1-8B-Instruct") == LLAMA
    assert known_shape("Qwen/Qwen3-30B-A3B-Instruct-2507") == QWEN
    with pytest.raises(ValueError, match=r"model 'x/Qwen3-31B' is not known. Did you mean Qwen3-32B"):
        known_shape("x/Qwen3-31B")
