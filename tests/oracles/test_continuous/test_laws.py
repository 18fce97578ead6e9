"""What holds in every run of the continuous oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmsched_env.config import Queueing, Server, SimConfig
from tests.oracles import batch as reference
from tests.oracles.batch import COMPLETED, DROPPED, REJECTED
from tests.oracles.continuous import ContinuousResult, ContinuousSimulator, Decide, Options, scripted
from tests.oracles.continuous.cases import Case, cases, chooser, dice, make_case, make_script
from tests.oracles.test_continuous.tools import INF, equal

COMMON = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def simulate_case(case: Case, decide: Decide) -> ContinuousResult:
    """The oracle on a random case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ContinuousSimulator(case.config, case.requests, decide, case.options, noise_key=7).run()


@settings(COMMON, max_examples=100)
@given(st.data())
def test_everyone_ends_once_and_memory_holds(data) -> None:
    """Submitted = completed + rejected + dropped; stamps in order; blocks within capacity; a gap per later token."""
    case = data.draw(cases(drained=True))
    assert_laws(case, simulate_case(case, scripted(make_script(chooser(data.draw), case.config))))


def test_laws_by_lot() -> None:
    """The same where memory is tight more often."""
    preempted = 0
    for seed in range(150):
        pick = dice(seed)
        case = make_case(pick, lattice=seed % 2 == 0, drained=True)
        result = simulate_case(case, scripted(make_script(pick, case.config)))
        assert_laws(case, result)
        preempted += result.preemptions.sum()
    assert preempted > 200


def assert_laws(case: Case, result: ContinuousResult) -> None:
    """What holds at the end of every run that was not cut off."""
    n = len(case.requests)
    assert result.count(COMPLETED) + result.count(REJECTED) + result.count(DROPPED) == n
    done = result.status == COMPLETED
    stamps = (case.requests.arrival_s, result.dispatch, result.first_token, result.last_token, result.completion)
    for before, after in zip(stamps, stamps[1:], strict=False):
        assert (before[done] <= after[done]).all()
    for server, peak in zip(case.config.servers, result.peak_blocks, strict=True):
        assert 16 * peak <= server.eta
    if result.count(DROPPED) == 0:
        assert len(result.gaps) == (case.requests.output_tokens[done] - 1).sum()
        prefilled = sum(row[3] for row in result.iterations)
        assert prefilled >= case.requests.prompt_tokens[done].sum()
    if not result.preemptions.any() and not result.count(DROPPED):
        assert sum(row[2] for row in result.iterations) == (case.requests.output_tokens[done] - 1).sum()


def one_slot(case: Case, **options: Any) -> tuple[ContinuousResult, reference.ReferenceResult]:
    """A case with a batch of one in both engines; capacities are whole blocks, and no overhead (it differs).

    The engine `batch` keeps room for the token to come, so it needs a token more.
    """
    servers = tuple(
        Server(replace(s.profile, kv_tokens=INF, noise_sigma=0.0), s.eta if s.eta == INF else s.eta // 16 * 16)
        for s in case.config.servers
    )
    queueing = Queueing(case.config.queueing.edges, case.config.queueing.discipline)
    config = SimConfig(servers, queueing, max_batch=1, slos=case.config.slos)
    roomier = replace(config, servers=tuple(replace(s, kv_tokens=s.eta + 1) for s in servers))
    static: Callable = lambda view: (view.num_bins, 1)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        slow = ContinuousSimulator(config, case.requests, static, Options(**options)).run()
        batch = reference.ReferenceSimulator(roomier, case.requests, static).run()
    return slow, batch


@pytest.mark.parametrize(
    "options", [{"prefill": "first"}, {"token_budget": INF}, {"admission": "prompt", "token_budget": INF}]
)
@settings(COMMON, max_examples=40)
@given(st.data())
def test_one_slot_is_the_batch_engine_of_batch_one(options: dict[str, Any], data) -> None:
    """Every stamp, every end, every discipline of the batch engine."""
    slow, batch = one_slot(data.draw(cases(drained=True)), **options)
    for name in ("dispatch", "first_token", "last_token", "completion"):
        np.testing.assert_allclose(getattr(slow, name), getattr(batch, name), rtol=1e-9, err_msg=name)
    equal(slow.status, batch.status)
    assert slow.in_system_integral == pytest.approx(batch.in_system_integral, rel=1e-9)
