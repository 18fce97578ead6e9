"""The loop in virtual time: every request has one answer or one reason, and each scheduler does what it says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from llmsched.eval.reality.in_process.loop import ServingLoop
from llmsched.eval.reality.in_process.rules import SCHEDULERS, Job, View, parse
from llmsched.eval.reality.serving.client import Target, body_of
from llmsched_env.requests import Requests
from tests.reality.in_process.stand_in import PREFILL_S, STEP_S, Clock, Model, serve, some

NAMES = list(SCHEDULERS)
TIGHT = 300
"""Tokens of KV memory that several batches do not fit in."""


def at(times: list[float], prompts: int = 4, tokens: int | list[int] = 5) -> Requests:
    """Requests at these times."""
    n = len(times)
    return Requests.checked(np.array(times), np.full(n, prompts), np.broadcast_to(tokens, n).copy())


def starts(model: Model) -> list[tuple[int, ...]]:
    """Who was in service after each start."""
    return [rows for _, what, rows in model.log if what == "start"]


@pytest.mark.parametrize("kv_tokens", [10**9, TIGHT], ids=["memory", "little memory"])
@pytest.mark.parametrize("name", NAMES)
def test_every_request_has_its_tokens_once(name: str, kv_tokens: int) -> None:
    """As many as it asked for, its own, in order; its stamps do not decrease; the memory is never exceeded."""
    for seed in range(20):
        requests = some(np.random.default_rng(seed))
        ended: list[int] = []
        loop, model = serve(name, requests, most=kv_tokens, kv_tokens=kv_tokens)
        assert not model.rows and not ended
        for number, (row, tokens) in enumerate(zip(loop.rows, loop.produced, strict=True)):
            count = int(requests.output_tokens[number])
            assert row.error == "" and row.tokens == count and len(row.gaps) == count - 1
            assert tokens == [1000 * number + place for place in range(count)]
            assert row.due <= row.first - PREFILL_S + 1e-9 and row.first <= row.last and min(row.gaps, default=0) >= 0
            assert sum(row.gaps) == pytest.approx(row.last - row.first)


@pytest.mark.parametrize("name", NAMES)
def test_what_ends_without_an_answer_is_counted_once(name: str) -> None:
    """Clients that give up, requests that are too large: a reason each, and `progress` hears of all."""
    requests = some(np.random.default_rng(5), 60, 0.005)
    prompts = requests.prompt_tokens.copy()
    prompts[7] = 2 * TIGHT
    requests = Requests.checked(requests.arrival_s, prompts, requests.output_tokens)
    loop, model = serve(name, requests, most=TIGHT, kv_tokens=TIGHT, timeout_s=0.5)
    reasons = [row.error for row in loop.rows]
    assert reasons[7] == "larger than the KV memory" and reasons.count("timeout") > 5
    for row, job in zip(loop.rows, loop.jobs, strict=True):
        assert row.error or row.tokens == job.tokens
        assert row.error or row.last - row.due <= 0.5
    assert not model.rows


def test_the_end_of_each_request_is_told() -> None:
    """Once, whatever its end."""
    requests, rule = some(np.random.default_rng(1)), parse("naive")()
    for timeout_s in (0.2, 1e9):
        clock, heard = Clock(), []
        more: dict[str, Any] = {"kv_tokens": 10**9, "timeout_s": timeout_s, "seed": 0}
        loop = ServingLoop(requests, rule, Model(clock), clock=clock, **more)
        loop.run(lambda: heard.append(1))  # noqa: B023
        assert len(heard) == len(loop.rows)


@pytest.mark.parametrize("name", NAMES)
def test_memory_that_is_missing_after_all_costs_a_batch_and_not_the_run(name: str) -> None:
    """The device has less than was thought: those in service are misses, the others go on."""
    requests = some(np.random.default_rng(3), 40, 0.01)
    loop, _ = serve(name, requests, most=TIGHT, kv_tokens=10**9)
    reasons = {row.error for row in loop.rows}
    assert reasons <= {"", "out of memory"} and "out of memory" in reasons


def test_naive_waits_for_a_batch_or_for_its_time() -> None:
    """Counted from when the model became free."""
    _, model = serve("naive:batch=3:wait=1000", at([0.1, 0.2, 0.3, 0.4, 5.0]))
    assert starts(model) == [(0, 1, 2), (3,), (4,)]
    first, second, third = (time for time, what, _ in model.log if what == "start")
    free = first + 4 * STEP_S
    assert first == pytest.approx(100.3 + PREFILL_S, abs=1e-5)
    assert second == pytest.approx(free + 1.0 + PREFILL_S, abs=1e-5)
    assert third == pytest.approx(105.0 + PREFILL_S, abs=1e-5)  # its time was over long before


def test_dynamic_waits_from_the_arrival_of_the_oldest() -> None:
    """Also where it arrived while the model was busy: the peer began to count when it looked at the queue."""
    _, model = serve("dynamic:least=2:wait=300", at([0.0, 0.0, 0.01], tokens=[20, 20, 1]))
    (_, _, _), (last, _, _) = ((time, what, rows) for time, what, rows in model.log if what == "start")
    busy = PREFILL_S + 19 * STEP_S
    assert busy < 0.31 and last == pytest.approx(100.31 + PREFILL_S, abs=1e-5)


def test_dynamic_follows_the_memory() -> None:
    """Two more after a batch with memory to spare, one less after one without, within its limits."""
    rule = parse("dynamic:least=2:most=7:memory=0.5")()
    sizes = []
    for share in (0.1, 0.1, 0.1, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9):
        rule.ended(share)
        sizes.append(rule.size)  # type: ignore[attr-defined]
    assert sizes == [4, 6, 7, 6, 5, 4, 3, 2, 2]
    requests = at([0.0] * 60)  # a row holds 9 tokens
    _, model = serve("dynamic:least=2:most=32:memory=0.5", requests, kv_tokens=90)
    assert [len(rows) for rows in starts(model)][:6] == [2, 4, 6, 5, 4, 6]  # half the memory is 5 rows


def test_a_window_does_not_touch_the_batch_under_way() -> None:
    """In the peer the next window replaced it, and its requests were lost."""
    requests = at([0.0, 0.15, 0.25, 0.35], tokens=50)
    loop, model = serve("window:every=100", requests)
    assert starts(model) == [(0,), (1, 2, 3)] and all(row.tokens == 50 for row in loop.rows)


def test_iterative_joins_and_leaves_at_every_iteration() -> None:
    """Nobody waits for anybody, within the cap."""
    requests = at([0.0, 0.05, 0.06], tokens=[30, 2, 30])
    _, model = serve("iterative", requests)
    assert starts(model) == [(0,), (0, 1), (0, 2)] or starts(model) == [(0,), (0, 1), (0, 1, 2)]
    assert (0, 2) in [rows for _, what, rows in model.log if what == "step"]
    _, capped = serve("iterative:batch=2", some(np.random.default_rng(0), 40, 0.005))
    assert max(len(rows) for _, _, rows in capped.log) == 2


def test_rows_that_have_ended_are_held_as_generate_does() -> None:
    """Under naive, dynamic and window all rows are computed to the end of the batch; under packing they leave."""
    for name, held in (("naive:batch=2", True), ("dynamic", True), ("window:every=1", True), ("packing", False)):
        loop, model = serve(name, at([0.0, 0.0], tokens=[2, 10]))
        assert ((1,) in [rows for _, _, rows in model.log]) is not held, name
        assert loop.rows[0].last < loop.rows[1].last  # who has its tokens has its answer


def view(jobs: list[Job], now: float, room: int = 10**9) -> View:
    """What a scheduler sees of jobs that wait."""
    return View(now, jobs, 0, 0.0, lambda chosen: sum(job.prompt + job.tokens for job in chosen) <= room)


def test_packing_orders_and_fills() -> None:
    """By waiting time and shortness; who is too late goes first; what does not fit is left out and nobody is cut."""
    rule = parse("packing:batch=10:tokens=100:wait=1000:short=10")()
    jobs = [Job(0, 0.0, 5, 60), Job(1, 0.1, 5, 60), Job(2, 0.2, 5, 2), Job(3, 0.3, 5, 40)]
    assert [job.number for job in rule.choose(view(jobs, 0.4))] == [2, 0]  # 2 is short; 60 + 60 are too many
    assert [job.number for job in rule.choose(view(jobs, 1.05))] == [0, 2]  # 0 is late
    large = [Job(0, 0.0, 5, 500), Job(1, 4.9, 5, 1)]
    assert [job.number for job in rule.choose(view(large, 5.0))] == [0]  # alone, with all its tokens
    assert [job.number for job in rule.choose(view(jobs, 0.4, room=30))] == [2]  # memory
    many = [Job(i, 0.0, 1, 1) for i in range(30)]
    assert len(rule.choose(view(many, 0.1))) == 8 and len(rule.choose(view(many, 2.0))) == 10  # 0.8 of 10


def test_packing_starves_nobody() -> None:
    """A long request among short ones that keep arriving, more than there is time for."""
    n = 300
    tokens = [400, *([5] * (n - 1))]
    requests = Requests.checked(0.01 * np.arange(n), np.full(n, 4), np.array(tokens))
    loop, _ = serve("packing:batch=4:tokens=20:wait=1000", requests)
    ends = [row.last for row in loop.rows]
    assert ends[0] < sorted(ends)[-50] and loop.rows[0].first < 2.0


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run_twice(name: str) -> None:
    """The loop has no randomness."""
    requests = some(np.random.default_rng(9))
    (one, _), (two, _) = serve(name, requests), serve(name, requests)
    assert one.rows == two.rows and one.batches == two.batches


def test_prompts_are_those_that_a_server_gets() -> None:
    """Of the lengths asked for, by seed and number."""
    requests = some(np.random.default_rng(2))
    loop, _ = serve("naive", requests)
    target = Target("http://x", "m")
    for number in range(len(loop.jobs)):
        assert loop.prompts[number].tolist() == body_of(target, requests, number, 0)["prompt"]


def test_stamps_are_those_of_the_model() -> None:
    """A token has the time at which the pass that gave it was over."""
    loop, model = serve("naive:batch=2", at([0.0, 0.0], tokens=[3, 4]))
    times = [time - 100.0 for time, _, _ in model.log]
    row = loop.rows[1]
    assert row.first == pytest.approx(times[0]) and row.last == pytest.approx(times[-1]) and len(times) == 4
    assert row.gaps == pytest.approx([b - a for a, b in pairwise(times)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("naiv", "Did you mean naive?"),
        ("static", "Choose naive, dynamic"),
        ("naive:batsh=4", "Did you mean batch?"),
        ("naive:batch", "'batch' is not known"),
        ("naive:batch=0", "give a whole number from 1"),
        ("naive:batch=2.5", "give a whole number"),
        ("naive:wait=-1", "give a number of ms"),
        ("naive:batch=2:batch=3", "given twice"),
        ("dynamic:memory=2", "from 0 to 1"),
        ("iterative:batch=auto", "not offered"),
    ],
)
def test_wrong_schedulers(text: str, said: str) -> None:
    """One line."""
    with pytest.raises(ValueError) as refused:
        parse(text)
    assert said in str(refused.value) and "\n" not in str(refused.value)
