"""What a user types: names and values of policies, old names, refusals."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from llmsched.policies import get, names, parse, parse_list
from llmsched.policies.network.settings import OVERDUE_OF_PPO
from llmsched.policies.parameters import show
from llmsched.policies.selection import label_notes
from llmsched_env.config import Controller, Queueing, Server, SimConfig
from llmsched_env.profiles import load_profile
from tests.policies.page import SYSTEM
from tests.policies.tools import CONTINUOUS, EVERY


def test_every_policy_is_registered() -> None:
    assert set(EVERY) | set(CONTINUOUS) <= set(names())
    assert set(EVERY) <= set(names("batch")) and not set(CONTINUOUS) & set(names("batch"))
    assert set(CONTINUOUS) <= set(names("continuous"))
    for name in names():
        made = get(name)
        assert made.name == name
        assert 20 < len(made.summary) < 120
        assert made.clairvoyant == name.startswith("oracle-")


def test_parse() -> None:
    bound = parse(" timeout:batch=16: wait = 200 ")
    assert (bound.name, bound.label, bound.text) == (
        "timeout",
        "timeout:batch=16: wait = 200",
        "timeout:batch=16:wait=200",
    )
    assert bound.encoded == {"batch": 16.0, "wait": 0.2}
    ready = bound.ready(SYSTEM)
    assert ready.params.tolist() == [16.0, 0.2] and ready.params.dtype == np.float64
    assert (ready.memory_size, ready.details, bound.clairvoyant, bound.autos) == (0, False, False, {})
    assert list(parse("multibin:select=oldest").encoded.values()) == [2.0, math.inf, math.inf]
    assert parse("multibin:cap=none:tbt=none").text == "multibin"
    assert parse("static:batch=1e2").encoded == {"batch": 100.0}
    assert parse(bound.text).text == bound.text
    assert ready.options.keys() == {"params", "memory_size", "details"}
    detailed = ["least-slack", "vllm-cached", "weighted-queue", "network", "ppo", "rollout"]
    assert [name for name in names() if parse(name).details] == detailed


def test_values_keep_their_digits() -> None:
    assert parse("priority:tokens=1234567.25").text == "priority:tokens=1234567.25"
    assert parse("timeout:wait=0.1").encoded["wait"] == 0.1 / 1000.0


def test_parse_list() -> None:
    assert [bound.label for bound in parse_list("static, dynamic ,static:batch=16")] == [
        "static",
        "dynamic",
        "static:batch=16",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "statc",
            r"'statc' is not a policy\. Did you mean static\? Choose one of static, dynamic, .*FILE\.py:FUNCTION",
        ),
        ("", "'' is not a policy"),
        (
            "static:bach=3",
            r"static has no parameter 'bach'\. Did you mean batch\? It has batch, overdue, overdue_batch",
        ),
        ("random:batch=3", r"random has no parameter 'batch'\. .*It has overdue, overdue_batch"),
        ("static:batch", "'batch' has no value: write batch=VALUE, batch being a whole number from 1 to 1024 or auto"),
        ("static:batch=0", r"static: batch=0 is not allowed: give a whole number from 1 to 1024 or auto\."),
        ("static:batch=1025", "batch=1025 is not allowed"),
        ("static:batch=2.5", "batch=2.5 is not allowed: give a whole number"),
        ("static:batch=nan", "batch=nan is not allowed"),
        ("static:batch=none", "batch=none is not allowed"),
        ("static:batch=", "batch= is not allowed"),
        ("static:batch=x", "batch=x is not allowed"),
        ("static:batch=3:batch=4", "batch is given twice"),
        ("static:", "static has no parameter ''"),
        ("static:label=", "give label=TEXT with 1 to 34 printable letters"),
        (f"static:label={'x' * 35}", "give label=TEXT with 1 to 34 printable letters"),
        ("static:label=a\x1b[1m", "printable letters"),
        ("static:label=a:label=b", "label is given twice"),
        ("static:label", "give label=TEXT"),
        ("static:label=dynamic", "dynamic is another policy: give another label"),
        ("static:label=oracle-x", "static does not know true output lengths, so its label cannot begin with oracle-"),
        ("oracle-sjf:label=mine", "oracle-sjf knows true output lengths, so its label begins with oracle-"),
        ("static:labl=x", "Did you mean label"),
        ("timeout:wait=inf", "wait=inf is not allowed: give a number of ms from"),
        ("timeout:wait=0", "wait=0 is not allowed"),
        ("multibin:select=olest", "give one of roundrobin, longest, oldest.*Did you mean oldest"),
        ("multibin:cap=auto", "cap=auto is not offered: give a whole number from 1 to 1024 or none"),
        ("adaptive-memory:threshold=1.5", "threshold=1.5 is not allowed: give a number from 0 to 1"),
        ("adaptive-memory:min=40", "min=40, start=8, max=32 contradict: give min <= start <= max"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_label_stands_for_the_policy() -> None:
    """In results; the text to type says the parameters, and choices of `auto` keep the label."""
    bound = parse("multibin:label=mine:cap=12")
    assert (bound.label, bound.text, bound.labelled) == ("mine", "multibin:cap=12", True)
    assert bound.with_params(cap=16).label == "mine"
    assert not parse("multibin:cap=12").labelled
    assert label_notes([bound, parse("static")]) == ["Labels: mine = multibin:cap=12."]
    assert label_notes([parse("static")]) == []


def test_a_label_changes_no_run() -> None:
    """Two labels of one policy have equal parameters, so their runs are one."""
    first, second = parse_list("static:batch=4:label=a,static:batch=4:label=b")
    assert first.label != second.label and first.encoded == second.encoded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("static,,dynamic", "'static,,dynamic' has an empty entry"),
        ("", "has an empty entry"),
        ("static,dynamic, static", "static is given 2 times: give it once"),
        ("static:label=a,dynamic:label=a", "a is given 2 times: .* a label .* of its own"),
        ("static,dynamic:label=static", "static is another policy"),
        ("static,dynamc", "Did you mean dynamic"),
    ],
)
def test_list_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_list(text)


def test_auto_is_left_open() -> None:
    bound = parse("timeout:batch=auto:wait=300")
    assert bound.autos == {"batch": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)}
    for use in (lambda: bound.encoded, lambda: bound.configure(SYSTEM), lambda: bound.ready(SYSTEM)):
        with pytest.raises(ValueError, match="batch is still auto"):
            use()
    chosen = bound.with_params(batch=32)
    assert (chosen.label, chosen.text, chosen.autos) == ("timeout:batch=auto:wait=300", "timeout:batch=32:wait=300", {})
    assert chosen.encoded == {"batch": 32.0, "wait": 0.3}
    with pytest.raises(ValueError, match="batch=0 is not allowed"):
        bound.with_params(batch=0)
    with pytest.raises(ValueError, match=r"no parameter 'bach'.*Did you mean batch"):
        bound.with_params(bach=3)


@pytest.mark.parametrize("name", EVERY)
def test_every_default_and_grid_is_allowed(name: str) -> None:
    made = get(name)
    assert made.bind(made.defaults).text == name
    for key, grid in made.auto.items():
        assert len(set(grid)) == len(grid) > 1
        for value in grid:
            assert parse(f"{name}:{key}={show(value)}").values[key] == value


def test_configure_sets_what_is_named_and_keeps_the_rest() -> None:
    base = SimConfig(
        (Server(load_profile("ideal")),),
        Queueing((10, 20), "sjf", hold_s=7.0, max_tokens=99.0),
        controller=Controller(tbt_s=0.09, alpha=3.0),
    )
    assert parse("static").configure(base) == base
    assert parse("dynamic").configure(base) == base
    assert parse("dynamic:tbt=40").configure(base).controller == Controller(tbt_s=0.04, alpha=3.0)
    assert parse("edf").configure(base).queueing == Queueing((10, 20), "edf", hold_s=7.0, max_tokens=99.0)
    assert parse("timeout:wait=250").configure(base).queueing == Queueing((10, 20), "sjf", hold_s=0.25, max_tokens=99.0)


def test_ppo_is_a_policy_of_its_own_and_says_what_it_is() -> None:
    """Weights of gradient training under this name, the evolved ones under `network`; no warning, no alias."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, evolved = parse("ppo"), parse("network")
    assert ours.policy is get("ppo") is not get("network") and "gradient" in get("ppo").summary
    assert "ppo" in names("batch") and "ppo" not in names("continuous")
    assert ours.ready(SYSTEM).params.tolist() != evolved.ready(SYSTEM).params.tolist()
    own, theirs = ours.ready(SYSTEM).config, evolved.ready(SYSTEM).config
    assert (own.queueing.overdue_factor, own.queueing.overdue_batch_factor) == OVERDUE_OF_PPO
    assert replace(own, queueing=theirs.queueing) == theirs
    assert parse("ppo:overdue=2:overdue_batch=0.75").ready(SYSTEM).config == theirs
