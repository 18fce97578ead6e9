"""Refusals and impatient clients: every request has one fate, every rule keeps its bound, and theory holds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.core.constants import REASONS
from llmsched_env.core.layout import ABANDONED, COMPLETED, REFUSED, WAITING
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.result import RunResult
from tests.oracles.continuous.cases import chooser
from tests.simulator import test_parity_continuous as continuous
from tests.simulator.invariants.checks import check_all, check_conservation
from tests.simulator.invariants.tools import COMMON, H100, loaded, run, run_script
from tests.simulator.test_parity import script, workloads
from tests.simulator.test_parity_losses import losing
from tests.simulator.test_theory import IDEAL, MEAN_S, assert_meets

RULES = {
    "none": Queueing(),
    "patience": Queueing(patience_s=12.0),
    "cap": Queueing(queue_cap=40),
    "bucket": Queueing(accept_rate=2.0, accept_burst=5.0),
    "deadline": Queueing(overdue_factor=1.0, overdue="refuse"),
    "deadline at launch": Queueing(overdue_factor=1.0, overdue_batch_factor=1.0, overdue="refuse"),
}
ENGINES = ("batch", "continuous")
LOADED = {"batch": 6.0, "continuous": 20.0}


def lost(rule: str, engine: str, policy: str = "multibin", **more) -> RunResult:
    """4,000 requests at twice the load that the servers carry."""
    requests, edges = loaded(requests=4_000, rate=LOADED[engine])
    queueing = dataclasses.replace(RULES[rule], edges=edges)
    return run(SimConfig((Server(H100),) * 4, queueing, engine=engine, **more), requests, policy)


@settings(COMMON, max_examples=250)
@given(st.data())
def test_every_request_has_one_fate(data: st.DataObject) -> None:
    """Engine `batch`: submitted = completed + rejected + refused + abandoned + dropped + unfinished, and the rest."""
    config, requests = losing(data.draw, data.draw(st.booleans())), data.draw(workloads())
    check_all(run_script(config, requests, script(data.draw, config)))


@settings(COMMON, max_examples=150)
@given(st.data())
def test_every_request_has_one_fate_in_the_engine_continuous(data: st.DataObject) -> None:
    """The same."""
    check_conservation(continuous.scripted_runs(chooser(data.draw), data.draw(st.booleans()), losses=True).fast)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "none"])
def test_each_rule_bounds_what_it_is_there_to_bound(rule: str, engine: str) -> None:
    """No wait beyond the patience, no queue above the cap, no more accepted than the bucket lets in, no start too late;
    and each loses requests, is told apart from the others, and lets more complete in time."""
    if rule == "deadline at launch" and engine == "continuous":
        pytest.skip("an option of the engine batch")
    result = lost(rule, engine)
    rows, rules = result.requests, result.config.queueing
    served = rows["status"] == COMPLETED
    wait = rows["dispatch"] - rows["arrival"]
    reasons = {REASONS[reason] for reason in np.unique(rows["reason"])} - {""}
    gone = rows[np.isin(rows["status"], (REFUSED, ABANDONED))]
    assert np.isnan(gone["dispatch"]).all() and (gone["left"] >= gone["arrival"]).all()
    if rule == "patience":
        assert wait[served].max() < rules.patience_s
        np.testing.assert_array_equal(gone["left"], gone["arrival"] + rules.patience_s)
        assert (gone["status"] == ABANDONED).all() and not reasons
    elif rule == "cap":
        entered = np.sort(rows["arrival"][served])
        taken = np.searchsorted(np.sort(rows["dispatch"][served]), entered, side="right")
        assert (np.arange(1, len(entered) + 1) - taken).max() <= 40
        assert reasons == {"queue_cap"} and (gone["left"] == gone["arrival"]).all()
    elif rule == "bucket":
        entered = rows["arrival"][served]
        for first in range(0, len(entered) - 400, 37):
            span = entered[first : first + 400] - entered[first]
            assert (np.arange(400) <= rules.accept_burst + rules.accept_rate * span + 1e-6).all()
        assert reasons == {"rate"}
    else:
        assert reasons == {"deadline"}
        assert wait[served].max() < result.config.slos[0].e2e_s
    assert 0.05 < len(gone) / len(rows) < 0.95
    if rule != "bucket":  # which lets in as much as it is told to
        assert summarize(result)["slo_attainment"] > summarize(lost("none", engine))["slo_attainment"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_refused_at_its_arrival_costs_nothing_else(engine: str) -> None:
    """Without the refused requests, and without the bucket, the others get the same stamps."""
    result = lost("bucket", engine, "static:batch=16")
    rows = result.requests
    kept = rows[rows["status"] != REFUSED]
    alone = Requests(*(kept[name].copy() for name in ("arrival", "prompt", "output", "predicted", "slo_class")))
    free = dataclasses.replace(result.config.queueing, accept_rate=math.inf, accept_burst=1.0)
    again = run(dataclasses.replace(result.config, queueing=free), alone, "static:batch=16").requests
    assert 0 < len(kept) < len(rows)
    for name in ("dispatch", "first_token", "completion"):
        np.testing.assert_allclose(again[name], kept[name], rtol=1e-12)


def test_impatient_customers_of_m_m_1() -> None:
    """One server, one at a time, patience of fixed length d: the share that gives up is that of Barrer (1957),
    (1 - r) r e / (1 - r^2 e) with e = exp(-(1 - r) d), d in mean service times; also above a load of 1."""
    for load, patience in ((0.8, 2.0), (1.3, 3.0)):
        shares = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            arrival = np.cumsum(rng.exponential(MEAN_S / load, 40_000))
            tokens = np.maximum(1, np.rint(1000.0 * MEAN_S * rng.exponential(1.0, 40_000))).astype(np.int32)
            config = SimConfig((Server(IDEAL),), Queueing(patience_s=patience * MEAN_S), max_batch=1)
            result = run(config, Requests.checked(arrival, np.ones(40_000, np.int32), tokens), "static:batch=1")
            shares.append(summarize(result)["abandoned_share"])
        decay = math.exp(-(1 - load) * patience)
        assert_meets(shares, (1 - load) * load * decay / (1 - load**2 * decay), 0.02)


def test_littles_law_with_requests_that_leave() -> None:
    """The integral of the number in the system is the sum of the times that requests spend in it."""
    for engine in ENGINES:
        rows = (result := lost("patience", engine)).requests
        assert (rows["status"] != WAITING).all()
        spent = np.where(np.isnan(rows["completion"]), rows["left"], rows["completion"]) - rows["arrival"]
        np.testing.assert_allclose(result.counts["holding"], spent.sum(), rtol=1e-9)


def test_classes_have_their_own_deadline() -> None:
    """What is refused because of its deadline is what has the tight one."""
    slos = (SLO(e2e_s=1e6, share=0.5), SLO(e2e_s=10.0, share=0.5, name="fast"))
    requests, edges = loaded(requests=3_000, rate=6.0)
    classes = np.arange(3_000) % 2
    requests = dataclasses.replace(requests, slo_class=classes.astype(np.int8))
    config = SimConfig((Server(H100),) * 4, dataclasses.replace(RULES["deadline"], edges=edges), slos=slos)
    rows = run(config, requests, "multibin").requests
    refused = rows["status"] == REFUSED
    assert refused.any() and (rows["slo_class"][refused] == 1).all()
