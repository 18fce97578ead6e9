"""A batch that is played token by token, each member's KV growing by one token a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmsched_env.profiles import Profile
from tests.oracles.batch.latency import decode_step_s, prefill_s
from tests.oracles.batch.requests import Request


@dataclass
class Run:
    """How a batch goes; times count from its start."""

    first_token: float
    end: float = 0.0
    last_token: dict[int, float] = field(default_factory=dict)  # request number -> offset
    preempted: list[tuple[float, int, int]] = field(default_factory=list)  # offset, request number, tokens produced
    dropped: int | None = None
    decode_s: float = 0.0
    steps: int = 0
    member_steps: int = 0
    peak_tokens: float = 0.0


def play_batch(profile: Profile, eta: float, members: Sequence[Request], scale: float = 1.0) -> Run:
    """Play a batch to its end, one token at a time; ``scale`` multiplies every duration."""
    if profile.form == "batch-length":
        return _play_batch_length(profile, eta, members, scale)
    batch = list(members)
    kv = {member.number: member.context for member in batch}
    clock = scale * prefill_s(profile, [member.context for member in batch])
    tokens = 1
    for member in batch:
        kv[member.number] += 1
    run = Run(first_token=clock)
    while True:
        held = sum(kv.values())
        assert held <= eta, f"{held} tokens held by a server of {eta}"
        run.peak_tokens = max(run.peak_tokens, held)
        for member in batch:
            if member.remaining == tokens:
                run.last_token.setdefault(member.number, clock)
        while (lacking := [member for member in batch if member.remaining > tokens]) and held + len(batch) > eta:
            victim = max(lacking, key=lambda member: member.number)
            batch.remove(victim)
            held -= kv.pop(victim.number)
            if not batch:
                run.dropped = victim.number
            else:
                run.preempted.append((clock, victim.number, tokens))
        if not lacking:
            run.end = clock
            return run
        step = scale * decode_step_s(profile, len(batch), held)
        clock += step
        run.decode_s += step
        run.steps += 1
        run.member_steps += len(batch)
        tokens += 1
        for member in batch:
            kv[member.number] += 1


def _play_batch_length(profile: Profile, eta: float, members: Sequence[Request], scale: float) -> Run:
    """The form without steps: a whole batch at once."""
    size = len(members)
    first = scale * prefill_s(profile, [])
    token = scale * decode_step_s(profile, size, 0)
    longest = max(member.remaining for member in members)
    run = Run(first_token=first)
    for member in members:
        length = member.remaining if profile.length == "output" else member.context + member.remaining
        run.last_token[member.number] = first + token * length
        run.peak_tokens += min(member.context + longest, member.reservation(eta))
    run.end = max(run.last_token.values())
    run.steps = longest - 1
    run.decode_s = token * run.steps
    run.member_steps = size * run.steps
    return run
