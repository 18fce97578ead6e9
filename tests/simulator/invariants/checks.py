"""Checks of one run: conservation, memory, stamps, order, work conservation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core.layout import ABANDONED, COMPLETED, DROPPED, NONE, PENDING, REFUSED, REJECTED
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.result import RunResult
from tests.simulator.invariants.tools import STAMPS


def check_conservation(result: RunResult) -> None:
    """Every request that arrived has one fate, and the counts of the lane, the rows and the summary agree."""
    lane, status = result.lane, result.requests["status"]
    arrived = status != PENDING
    fates = {name: int((status == value).sum()) for name, value in FATES.items()}
    unfinished = int(arrived.sum()) - sum(fates.values())
    assert arrived.sum() == lane["next_arrival"]
    assert np.array_equal(arrived, result.requests["arrival"] <= lane["now"])
    assert fates == {name: int(result.counts[name]) for name in FATES}
    assert unfinished == lane["waiting"] + lane["in_service"]
    summary = summarize(result)
    assert summary["submitted"] == arrived.sum()
    assert summary["submitted"] == sum(summary[name] for name in (*FATES, "unfinished"))
    assert summary["unfinished"] == unfinished
    if np.isinf(result.config.horizon_s):
        assert unfinished == 0
        assert arrived.all()


FATES = {
    "completed": COMPLETED,
    "rejected": REJECTED,
    "dropped": DROPPED,
    "refused": REFUSED,
    "abandoned": ABANDONED,
}


def check_memory(result: RunResult) -> None:
    """No batch ever holds more than its server's KV capacity."""
    eta = np.array([server.eta for server in result.config.servers])
    assert (result.batches["kv_peak"] <= eta[result.batches["server"]]).all()
    assert (result.servers["peak_ever"] <= eta).all()


def check_stamps(result: RunResult) -> None:
    """Arrival <= dispatch <= first token <= last token <= completion, and each stamp belongs to its fate."""
    rows = result.requests
    previous = rows["arrival"]
    for name in STAMPS:
        known = ~np.isnan(rows[name])
        assert (rows[name][known] >= previous[known]).all(), name
        previous = np.where(known, rows[name], previous)
    completed = rows["status"] == COMPLETED
    for name in STAMPS:
        assert not np.isnan(rows[name][completed]).any(), name
    assert np.isnan(rows["completion"][~completed]).all()
    assert np.isnan(rows["dispatch"][rows["status"] == REJECTED]).all()
    if any(server.profile.form == "batch-length" for server in result.config.servers):
        return  # there even the first token is followed by the time of one
    single = completed & (rows["output"] == 1)
    assert np.array_equal(rows["first_token"][single], rows["last_token"][single])


def check_one_batch_at_a_time(result: RunResult) -> None:
    """On each server a batch starts when the one before has ended."""
    for server in range(len(result.config.servers)):
        batches = result.batches[result.batches["server"] == server]
        assert (batches["start"][1:] >= batches["end"][:-1]).all()
        assert (batches["end"] >= batches["start"]).all()


def check_batches(result: RunResult) -> None:
    """Batches are not empty, not above the cap, and what was launched has come back or runs."""
    batches, lane, now = result.batches, result.lane, result.lane["now"]
    assert len(batches) == lane["counts"]["batches"]
    assert ((batches["size"] >= 1) & (batches["size"] <= result.config.max_batch)).all()
    assert batches["size"].sum() == lane["counts"]["launched"]
    running = batches["end"] > now
    assert running.sum() == (result.servers["batch"]["number"] != NONE).sum()
    if not running.any():
        counts = lane["counts"]
        assert counts["launched"] == counts["completed"] + counts["dropped"] + counts["preempted"]


def check_order(result: RunResult) -> None:
    """FIFO: in every bin the first dispatches follow the numbers, and none is passed over."""
    for k in range(result.config.queueing.num_bins):
        rows = result.requests[(result.requests["bin"] == k) & (result.requests["status"] >= 0)]
        dispatch = rows["dispatch"][~np.isin(rows["status"], (REJECTED, REFUSED, ABANDONED))]
        dispatch = np.where(np.isnan(dispatch), np.inf, dispatch)
        assert (dispatch[1:] >= dispatch[:-1]).all()


def check_overdue(result: RunResult) -> None:
    """No request is overdue where there is no such queue; at its first dispatch a request that was due is overdue, and
    without the rule at launch no other is."""
    queueing, rows = result.config.queueing, result.requests[result.requests["status"] != REJECTED]
    started = rows[~np.isnan(rows["dispatch"])]
    if queueing.overdue_factor is None:
        assert (rows["overdue"] == 0).all()
        return
    due = np.array([last_start_s(result.config, row, queueing.overdue_factor) for row in started])
    clear = np.abs(due - started["dispatch"]) > 1e-9
    assert (started["overdue"] >= (due <= started["dispatch"]))[clear].all()
    if queueing.overdue_batch_factor is None:
        assert (started["overdue"] == (due <= started["dispatch"]))[clear].all()


def last_start_s(config: SimConfig, row: np.void, factor: float) -> float:
    """Deadline minus what has to be left of it, from the service time alone on the first server, token by token."""
    profile, slo = config.servers[0].profile, config.slos[row["slo_class"]]
    prompt, length = int(row["prompt"]), int(row["predicted"])
    if row["preemptions"]:
        return np.nan  # its prediction is another one now
    prefill = profile.prefill_ms([prompt]) / 1000
    if profile.form == "batch-length":
        decode = profile.decode_step_ms(1, 0.0) / 1000 * (length if profile.length == "output" else prompt + length)
    else:
        kv: Any = prompt + np.arange(1, length)  # the law takes arrays too
        decode = sum(profile.decode_step_ms(1, float(tokens)) for tokens in kv) / 1000
    alone = np.array([prefill, prefill + decode])
    targets = np.array([slo.ttft_s, slo.e2e_s])
    return float(row["arrival"] + np.min(targets - np.minimum(factor * alone, np.maximum(alone, targets / 2))))


def check_work_conservation(result: RunResult) -> None:
    """Never does a server stand idle while a request waits: for policies that launch at once, without memory limit."""
    rows, batches, servers = result.requests, result.batches, len(result.config.servers)
    times = np.unique(np.concatenate([rows["arrival"], batches["end"], batches["start"]]))
    waiting = count(rows["arrival"], times) - count(rows["dispatch"], times)
    free = servers - count(batches["start"], times) + count(batches["end"], times)
    assert (waiting >= 0).all()
    assert (free >= 0).all()
    assert (np.minimum(waiting, free) == 0).all()


def count(events: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of ``events`` have happened by each of ``times``."""
    return np.searchsorted(np.sort(events), times, side="right")


def check_all(result: RunResult) -> None:
    """Everything that holds whatever the policy."""
    check_conservation(result)
    check_memory(result)
    check_stamps(result)
    check_one_batch_at_a_time(result)
    check_batches(result)
    if result.config.queueing.discipline == "fifo" and result.config.queueing.overdue_factor is None:
        check_order(result)
    check_overdue(result)
