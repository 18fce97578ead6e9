"""The seat of a policy in a real engine, without the engine: order, ends, growth, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.policies.vllm import seat as module
from llmsched.policies.vllm.seat import Seat
from llmsched.policies.vllm.settings import FILE, POLICY, Settings, from_environment, from_mapping

LIMITS: Mapping[str, Any] = {"max_batch": 8, "kv_tokens": 16_000.0, "token_budget": 64.0, "asynchronous": False}


def seat(policy: str, **options: Any) -> Seat:
    """A seat on a small server."""
    return Seat(Settings(policy, options=options).ready(**LIMITS))


@pytest.mark.parametrize(("policy", "column"), [("static", 0), ("sjf", 1)])
def test_requests_are_offered_in_the_order_of_the_policy(
    policy: str, column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First come or shortest first, in few rows that ended requests leave, while some give up wherever they stand."""
    monkeypatch.setattr(module, "FIRST_ROWS", 8)
    rng, one = np.random.default_rng(3), seat(policy)
    waiting: dict[str, tuple[int, int]] = {}
    running: list[str] = []
    for number in range(300):
        predicted = int(rng.integers(1, 50))
        one.arrive(str(number), 0.1 * number, 10, 60, predicted)
        waiting[str(number)] = (number, predicted)
        while len(waiting) > 6:
            gone = str(rng.choice(list(waiting)))
            if rng.random() < 0.5:
                one.give_up(gone)
                del waiting[gone]
                continue
            found = str(one.offer(1, 8, 0, "", 0))
            assert found == min(waiting, key=lambda name: (waiting[name][column], waiting[name][0]))
            one.take(found, 0.1 * number)
            del waiting[found]
            running.append(found)
        while len(running) > 3:
            one.complete(running.pop(int(rng.integers(4))), 5, 4, 0.1, 0.1 * number)
        assert one.waiting == len(waiting)
    assert one.numbers.keys() == {*waiting, *running}
    assert one.simulator.capacity < 100


def test_a_preempted_request_is_first_again() -> None:
    """It stands before others, and a request that could not begin stands where it stood."""
    one = seat("sjf")
    for name, predicted in (("a", 9), ("b", 5), ("c", 7)):
        one.arrive(name, 1.0, 10, 60, predicted)
    for name in "bca":
        assert one.offer(1, 8, 0, "", 0) == name
        one.take(name, 2.0)
    one.put_back("a", 3)
    assert one.offer(1, 8, 0, "", 0) == "a"
    one.put_back("b", 1)
    one.take("a", 3.0)
    one.untake("a")
    assert one.offer(1, 8, 0, "", 0) == "a"


def test_memory_that_is_reserved_is_given_back() -> None:
    """Completed, released, preempted and given up: nothing stays reserved."""
    one = seat("static")
    for name in "abcd":
        one.arrive(name, 1.0, 100, 60, 50)
        one.take(name, 1.0)
    server = one.simulator.servers[0, 0]
    assert server["reserved"] == 4 * 160
    one.complete("a", 7, 4, 0.5, 2.0)
    assert [one.release("b"), one.release("b")] == [True, False]
    one.complete("b", 7, 3, 0.5, 2.0)
    one.put_back("c", 3)
    one.give_up("c")
    one.give_up("d")
    assert server["reserved"] == 0 == one.waiting
    assert not one.numbers


@pytest.mark.parametrize(
    ("policy", "options", "said"),
    [
        ("oracle-sjf", {}, "vLLM does not know true output lengths"),
        ("fcfs", {}, "prefills in chunks"),
        ("vllm-least-computed", {}, "victim='least-computed', but whom vLLM preempts"),
        ("static", {"max_chunk": 16}, "max_chunk=16, but whom vLLM preempts"),
        ("static", {"admission": "chunk"}, "--no-scheduler-reserve-full-isl"),
        ("sarathi:budget=4096", {}, "--max-num-batched-tokens 4096"),
        ("network", {}, "give 'profile'"),
        ("sjf:overdue=2", {}, "give 'profile'"),
        ("static", {"bins": 4}, "lower bounds"),
        ("window", {}, "belongs to the engine 'batch'"),
    ],
)
def test_what_vllm_cannot_do_is_refused(policy: str, options: Mapping[str, Any], said: str) -> None:
    """In one line that says what to do."""
    with pytest.raises(ValueError) as caught:
        Settings(policy, options=options).ready(**LIMITS)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "policy=None"),
        ({"policy": "sjf", "profil": "x"}, "'profil' is not a setting"),
        ({"policy": "sjf", "predicted": 0}, "predicted=0"),
        ({"policy": "sjf", "seed": -1}, "seed=-1"),
        ({"policy": "sjf", "steps": 3}, "steps=3"),
    ],
)
def test_bad_settings_are_refused(found: Mapping[str, Any], said: str) -> None:
    """In one line that names the entry."""
    with pytest.raises(ValueError) as caught:
        from_mapping(found, "here")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_settings_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON and TOML say the same; the policy alone needs no file; nothing at all is refused."""
    monkeypatch.delenv(FILE, raising=False)
    monkeypatch.delenv(POLICY, raising=False)
    with pytest.raises(ValueError, match="no policy is given"):
        from_environment()
    monkeypatch.setenv(POLICY, "edf")
    assert from_environment() == Settings("edf")
    (tmp_path / "a.json").write_text(json.dumps({"policy": "sjf", "bins": [0, 64], "predicted": 9}))
    (tmp_path / "b.toml").write_text('policy = "sjf"\nbins = [0, 64]\npredicted = 9\n')
    monkeypatch.delenv(POLICY)
    read = []
    for name in ("a.json", "b.toml"):
        monkeypatch.setenv(FILE, str(tmp_path / name))
        read.append(from_environment())
    assert read[0] == read[1] == Settings("sjf", 9, options={"bins": (0, 64)})
    monkeypatch.setenv(FILE, str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="there is no such file"):
        from_environment()
