"""Which requests a batch takes (docs/reference/semantics.md, Decisions)."""

from __future__ import annotations

from collections.abc import Iterable

from llmsched_env.config import SimConfig
from tests.oracles.batch.latency import decode_step_s, prefill_s
from tests.oracles.batch.requests import Request
from tests.oracles.batch.result import Server


def admitted(
    config: SimConfig, server: Server, queue: Iterable[Request], size: int, kind: bool, now: float
) -> list[Request]:
    """The members of the next batch; admission stops at the first request that does not fit."""
    queueing = config.queueing
    members: list[Request] = []
    reserved = 0.0
    predicted = 0
    for request in queue:
        if len(members) == size or bool(request.overdue) != kind:
            break
        if reserved + request.reservation(server.eta) > server.eta or request.context + 1 > server.eta:
            break
        waited = now >= request.arrival + queueing.max_wait_s
        if members and predicted + request.predicted > queueing.max_tokens and not waited:
            break
        members.append(request)
        reserved += request.reservation(server.eta)
        predicted += request.predicted
    return members


def overdue_members(config: SimConfig, server: Server, members: list[Request], now: float) -> list[Request]:
    """Members that become overdue at launch, in order of admission."""
    share, overhead = config.queueing.overdue_batch_factor, config.overhead_s
    if share is None or not members:
        return []
    profile, contexts = server.profile, [member.context for member in members]
    guesses = [member.predicted - member.generated for member in members]
    if profile.form == "batch-length":
        length = max(m.prompt + m.predicted for m in members) if profile.length == "total" else max(guesses)
        decode = decode_step_s(profile, len(members), 0) * length
    else:
        steps = range(1, max(1, *guesses))
        decode = sum(decode_step_s(profile, len(members), sum(contexts) + len(members) * j) for j in steps)
    first = now + share * (overhead + prefill_s(profile, contexts))
    end = now + share * (overhead + prefill_s(profile, contexts) + decode)
    slos = config.slos
    return [
        m
        for m in members
        if not m.returned
        and (m.arrival + slos[m.slo_class].e2e_s < end or m.arrival + slos[m.slo_class].ttft_s < first)
    ]
