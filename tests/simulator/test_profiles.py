"""Profiles and fleets: the shipped numbers, the forms, and every way a file can be wrong."""

from __future__ import annotations

import json
import math
import pickle

import pytest

from llmsched_env.profiles import COEFFICIENTS, FORMS, Profile, load_profile, shipped_profiles
from llmsched_env.servers import parse_servers


def good(**changes):
    raw = {
        "schema": "llmsched-profile/v1",
        "name": "mine",
        "form": "split",
        "units": "ms; tokens",
        "coefficients": {"d0": 30.0, "d1": 0.2, "d2": 1e-4, "p0": 50.0, "p1": 0.1, "p2": 1e-6},
        "kv_tokens": 1000,
    }
    return {k: v for k, v in {**raw, **changes}.items() if v != "absent"}


def written(tmp_path, raw):
    path = tmp_path / "mine.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return path


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_loads_and_says_where_it_comes_from(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.meta["source"] and profile.meta["caveats"]
    assert isinstance(profile.meta["measured"], bool)
    assert 0 < profile.decode_step_ms(1, 100) <= profile.decode_step_ms(64, 100_000)
    assert profile.prefill_ms([100]) <= profile.prefill_ms([4000, 4000])
    assert pickle.loads(pickle.dumps(profile)) == profile
    assert hash(profile) == hash(load_profile(name))


def test_the_shipped_profiles_are_the_promised_ones():
    assert len(shipped_profiles()) >= 13
    assert load_profile("a100-80gb_bloom-176b_tp8").kv_tokens == 51_717
    assert load_profile("peer-qwen3-1.7b-rtx4080").kv_tokens == 37_333
    assert load_profile("ideal").kv_tokens == load_profile("synthetic").kv_tokens == math.inf
    assert not load_profile("peer-qwen3-1.7b-rtx4080").meta["measured"]
    assert "NOT MEASURED" in load_profile("peer-qwen3-1.7b-rtx4080").meta["caveats"][0]
    fitted_elsewhere = {"floor", "table"}  # to logs, and to tables that are not shipped
    assert {load_profile(name).form for name in shipped_profiles()} == set(FORMS) - fitted_elsewhere


def test_forms_by_hand():
    split = Profile("s", "split", {"d0": 30, "d1": 0.5, "d2": 0.001, "p0": 50, "p1": 0.1, "p2": 1e-5}, math.inf)
    assert split.decode_step_ms(10, 2000) == pytest.approx(30 + 5 + 2)
    assert split.prefill_ms([100]) == 50
    assert split.prefill_ms([1000, 2000]) == pytest.approx(0.1 * 3000 + 1e-5 * 5e6)
    affine = Profile("a", "affine", split.coefficients, math.inf)
    assert affine.decode_step_ms(10, 2000) == split.decode_step_ms(10, 2000)
    assert affine.prefill_ms([1000, 2000]) == pytest.approx(50 + 0.1 * 3000 + 1e-5 * 5e6)
    floor = Profile("f", "floor", split.coefficients, math.inf)
    assert floor.decode_step_ms(10, 2000) == pytest.approx(30 + 2)
    assert floor.decode_step_ms(100, 2000) == pytest.approx(50 + 2)
    assert floor.prefill_ms([1000, 2000]) == split.prefill_ms([1000, 2000])
    tokens = Profile("t", "tokens", {"w0": 10, "e0": 4, "w1": 0.05, "a_p": 1e-6, "a_d": 1e-3}, math.inf)
    assert tokens.decode_step_ms(8, 1000) == pytest.approx(10 + 1)
    assert tokens.decode_step_ms(200, 1000) == pytest.approx(4 + 10 + 1)
    assert tokens.prefill_ms([1000, 1000]) == pytest.approx(4 + 100 + 2)
    length = Profile("l", "batch-length", {"a": 10, "beta": 0.2, "g": 0.3}, math.inf)
    assert length.prefill_ms([5000]) == 10
    assert length.decode_step_ms(1, 0) == 0.2
    assert length.decode_step_ms(4, 0) == pytest.approx(0.2 * (1 + 0.3 * 3 / 4))


def test_a_file_of_ones_own_is_read(tmp_path):
    profile = load_profile(written(tmp_path, good(kv_tokens=None, gpu="g9", noise_sigma=0.1)))
    assert (profile.kv_tokens, profile.noise_sigma, profile.meta["gpu"]) == (math.inf, 0.1, "g9")


def coefficient(name, value):
    coefficients = {**good()["coefficients"], name: value}
    return good(coefficients={k: v for k, v in coefficients.items() if v != "absent"})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("{", r"mine.json: not readable as JSON"),
        ("[1]", r"mine.json: not a JSON object but list"),
        (
            good(schema="llmsched-profile/v2"),
            r"schema='llmsched-profile/v2' is not supported: .* 'llmsched-profile/v1'",
        ),
        (good(units="s; tokens"), r"units='s; tokens' is not supported: .*'ms; tokens'"),
        *(
            (good(**{f: "absent"}), rf"field '{f}' is missing")
            for f in ("schema", "name", "form", "units", "kv_tokens")
        ),
        (good(form="cubic"), r"form='cubic' is not known: choose one of split, tokens, .*, experts, table\."),
        (good(name=3), r"name=3 is not allowed"),
        (good(coefficients=[1]), r"coefficients=\[1\] is not allowed"),
        (coefficient("d1", "absent"), r"mine.json: coefficients.d1 is missing"),
        (coefficient("d9", 1.0), r"coefficients.d9 is not known"),
        (coefficient("p1", -0.1), r"coefficients.p1=-0.1 is not allowed: give a finite number of at least 0"),
        (coefficient("p1", math.nan), r"coefficients.p1=nan is not allowed"),
        (coefficient("p1", math.inf), r"coefficients.p1=inf is not allowed"),
        (coefficient("p1", "1"), r"coefficients.p1='1' is not allowed"),
        (coefficient("p1", True), r"coefficients.p1=True is not allowed"),
        (good(kv_tokens=1), r"kv_tokens=1 is not allowed: give at least 2"),
        (good(kv_tokens=math.nan), r"kv_tokens=nan is not allowed"),
        (good(tensor_parallel=0), r"tensor_parallel=0 is not allowed"),
        (good(tensor_parallel=1.5), r"tensor_parallel=1.5 is not allowed"),
        (good(noise_sigma=1.5), r"noise_sigma=1.5 is not allowed: give a number from 0 to 1"),
        (good(form="batch-length", coefficients={"a": 1, "beta": 1, "g": 0}), r"field 'length' is missing"),
        (good(form="batch-length", coefficients={"a": 1, "beta": 1, "g": 0}, length="x"), r"length='x' is not known"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_file_and_field(tmp_path, raw, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_profile(written(tmp_path, raw))
    assert "mine.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_get_the_nearest_and_the_list():
    with pytest.raises(ValueError, match=r"Did you mean h100-80gb_llama2-70b_tp4\?.*Shipped: .*synthetic"):
        load_profile("h100-llama2-70b_tp4")
    with pytest.raises(ValueError, match=r"'nowhere/x.json': there is no such file"):
        load_profile("nowhere/x.json")


def test_coefficient_names_are_those_of_the_docstring():
    for form, names in COEFFICIENTS.items():
        assert f"``{form}``: {' '.join(names)}" in " ".join((Profile.__doc__ or "").split())


def test_servers_of_one_kind_and_mixed(tmp_path):
    assert len(parse_servers("ideal", 4)) == 4
    assert len(parse_servers("ideal")) == 1
    names = [s.profile.name for s in parse_servers("ideal:2, synthetic:1")]
    assert names == ["ideal", "ideal", "synthetic"]
    assert len(parse_servers("ideal:2,synthetic", 3)) == 3
    assert [s.eta for s in parse_servers("ideal", 2, 500)] == [500.0, 500.0]
    assert parse_servers("a100-80gb_bloom-176b_tp8")[0].eta == 51_717
    assert parse_servers(str(written(tmp_path, good())), 2)[1].profile.name == "mine"


@pytest.mark.parametrize(
    ("text", "servers", "message"),
    [
        ("ideal:2,synthetic:2", 3, r"servers=3 contradicts .* counts 4"),
        ("ideal", 0, r"servers=0 is not allowed: give a whole number from 1 to 128"),
        ("ideal", 1.5, r"servers=1.5 is not allowed"),
        ("ideal:0", None, r"'0' is not a number of servers"),
        ("ideal:x", None, r"'x' is not a number of servers"),
        ("ideal:100,synthetic:100", None, r"counts 200 servers: at most 128"),
        ("ideall", 1, r"Did you mean ideal\?"),
        ("ideal:1,nope:1", None, r"profile 'nope' is not known"),
    ],
)
def test_bad_fleets_are_refused(text, servers, message):
    with pytest.raises(ValueError, match=message):
        parse_servers(text, servers)


def test_kv_below_two_tokens_is_refused():
    with pytest.raises(ValueError, match=r"kv_tokens=1 is not allowed"):
        parse_servers("ideal", 1, 1)
