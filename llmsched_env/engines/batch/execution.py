"""Engine `batch`: what happens to a batch that runs to completion, settled in closed form when it is dispatched.

Members are dispatched together, prefilled together, decode in step (finished ones as padding) and are released
together.  A batch that outgrows the KV memory loses its latest members on the way (docs/reference/semantics.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.itl import add_gaps, add_stall
from llmsched_env.core.latency import (
    decode_s,
    decode_until_s,
    noise_factor,
    piece_steps,
    prefill_s,
    step_piece_s,
    steps_s,
)
from llmsched_env.core.layout import BATCH_LENGTH, NONE
from llmsched_env.core.queueing.sessions import will_end
from llmsched_env.engines.batch.formation import form_batch
from llmsched_env.engines.batch.service_time import work_of

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def misses_deadline(state: State, i):
    """Whether request ``i``, with all its stamps set, misses its TTFT or E2E target."""
    request = state.requests[i]
    slo = state.slos[request.slo_class]
    return request.first_token > request.arrival + slo.ttft or request.completion > request.arrival + slo.e2e


@part
def misses_tpot(state: State, i):
    """Whether request ``i``, with all its stamps set, misses its TPOT target (met with a single token)."""
    request = state.requests[i]
    if request.output < 2:
        return False
    return request.last_token - request.first_token > state.slos[request.slo_class].tpot * (request.output - 1)


@part
def settle(state: State, s, n, end):
    """Stamp the release of the members that complete at ``end`` and keep their sums for the completion event."""
    run = state.servers[s].batch
    run.completing = run.deadline_misses = run.tpot_misses = 0
    run.sum_l = run.sum_l2 = run.worst_e2e = 0.0
    for m in range(n):
        i = state.members[m]
        if i < 0:  # left the batch before its end
            continue
        request = state.requests[i]
        request.completion = request.last_token if state.params.release_own else end
        length = float(request.prompt + request.output)
        run.completing += 1
        run.sum_l += length
        run.sum_l2 += length * length
        run.worst_e2e = max(run.worst_e2e, request.completion - request.arrival)
        if state.params.track:
            if request.missed or misses_deadline(state, i):
                run.deadline_misses += 1
            elif misses_tpot(state, i):
                request.missed = 1
                run.tpot_misses += 1


@part
def run_through(state: State, s, n, factor, first, prompts, longest):
    """All steps of a batch that fits in memory: stamp every member's last token, return the end."""
    run, hardware = state.servers[s].batch, state.hardware[s]
    base, slope, piece_end = step_piece_s(hardware, n, prompts + n)
    base, slope = base * factor, slope * factor
    by_length = hardware.form == BATCH_LENGTH
    end = first
    run.peak = 0.0 if by_length else prompts + n * longest
    for m in range(n):
        request = state.requests[state.members[m]]
        own = request.output - request.generated
        if by_length:
            prompt = request.prompt + request.generated
            run.peak += min(prompt + longest, request.prompt + request.predicted, hardware.eta)
            request.last_token = first + factor * decode_until_s(hardware, n, prompts, prompt, own)
        elif piece_end == math.inf:
            request.last_token = first + steps_s(1, own, base, slope, prompts, n)
        else:
            request.last_token = first + decode_s(hardware, 1, own, prompts, n) * factor
        end = max(end, request.last_token)
    run.steps = longest - 1
    run.member_steps = float(n) * (longest - 1)
    run.decode_s = base * (longest - 1) if by_length else end - first
    add_decode_gaps(state, hardware, n, factor, (1, longest), prompts, n)
    return end


@part
def add_decode_gaps(state: State, hardware, n, factor, span, prompts, batch):
    """Add the gaps of the steps ``span`` = [j0, j1) of a batch that began with ``n`` members, piece by piece."""
    j = span[0]
    while j < span[1]:
        base, slope, end = step_piece_s(hardware, batch, prompts + batch * j)
        until = piece_steps(end, j, span[1], prompts, batch)
        add_gaps(state, n, (base + slope * prompts) * factor, slope * factor * batch, j, until)
        j = until


@part
def latest_unfinished(state: State, n, tokens):
    """Place in ``members`` of the member of largest number that has more than ``tokens`` to produce, and the most."""
    place, longest = NONE, tokens
    for m in range(n):
        i = state.members[m]
        if i >= 0:
            own = state.requests[i].output - state.requests[i].generated
            longest = max(longest, own)
            if own > tokens and (place == NONE or i > state.members[place]):
                place = m
    return place, longest


@part
def stamp_finished(state: State, hardware, n, time, span, factor, prompts, batch):
    """Stamp the members whose last token falls in the steps ``span`` = [j0, j1), which begin at ``time``."""
    for m in range(n):
        i = state.members[m]
        if i >= 0:
            own = state.requests[i].output - state.requests[i].generated
            if span[0] < own <= span[1]:
                state.requests[i].last_token = time + decode_s(hardware, span[0], own, prompts, batch) * factor
    add_decode_gaps(state, hardware, n, factor, span, prompts, batch)
    return decode_s(hardware, span[0], span[1], prompts, batch) * factor


@part
def leave(state: State, s, i, tokens, time):
    """Request ``i`` leaves the batch at ``time`` with ``tokens`` more; its return waits in the server's list."""
    run, request = state.servers[s].batch, state.requests[i]
    request.generated += tokens
    request.predicted = request.generated + 1
    request.last_token = time  # so far; the event is due then
    request.next = NONE
    if run.preempted_head == NONE:
        run.preempted_head = i
    else:
        state.requests[run.preempted_tail].next = i
    run.preempted_tail = i


@apart
def run_with_preemptions(state: State, s, n, factor, first, prompts, longest):
    """All steps of a batch that outgrows the memory; return its end.  Those that leave become NONE in ``members``."""
    run, hardware = state.servers[s].batch, state.hardware[s]
    for m in range(n):
        if state.requests[state.members[m]].output - state.requests[state.members[m]].generated == 1:
            state.requests[state.members[m]].last_token = first
    batch, time, j = n, first, 1
    run.steps, run.member_steps, run.decode_s = 0, 0.0, 0.0
    run.peak = prompts + batch
    while j < longest:
        until = min(longest, int((hardware.eta - prompts) / batch))
        if until > j:
            spent = stamp_finished(state, hardware, n, time, (j, until), factor, prompts, batch)
            run.steps += until - j
            run.member_steps += float(batch) * (until - j)
            run.decode_s += spent
            time += spent
            j = until
        run.peak = max(run.peak, prompts + batch * j)
        if j == longest:
            break
        place, _ = latest_unfinished(state, n, j)
        i = state.members[place]
        state.members[place] = NONE
        if batch == 1:
            run.drop = i
            state.requests[i].last_token = time
            break
        prompts -= state.requests[i].prompt + state.requests[i].generated
        leave(state, s, i, j, time)
        batch -= 1
        _, longest = latest_unfinished(state, n, j)
    return time


@part
def launch(state: State, s, choice, size):
    """Form a batch on server ``s`` and settle its future; return its size, 0 when not even the first fits."""
    counts = state.counts
    lane, server, hardware = state.lane, state.servers[s], state.hardware[s]
    run = server.batch
    n = form_batch(state, s, choice, size)
    if n == 0:
        return 0
    prompts, squares, rest, total = work_of(state, n)
    longest = 0
    for m in range(n):
        request = state.requests[state.members[m]]
        longest = max(longest, request.output - request.generated)
    factor = noise_factor(hardware.noise_sigma, lane.noise_key, counts.batches)
    begin = lane.now + state.params.overhead
    first = begin + prefill_s(hardware, prompts, squares) * factor
    server.predicted_end = first + decode_until_s(hardware, n, prompts, total - rest, rest)
    for m in range(n):
        request = state.requests[state.members[m]]
        if math.isnan(request.dispatch):
            request.dispatch = lane.now
        if math.isnan(request.first_token):
            request.first_token = first
        else:
            add_stall(state, state.members[m], first - request.last_token)
        request.batch = counts.batches
    run.drop = run.preempted_head = run.preempted_tail = NONE
    if hardware.form != BATCH_LENGTH and prompts + float(n) * longest > hardware.eta:
        end = run_with_preemptions(state, s, n, factor, first, prompts, longest)
    else:
        end = run_through(state, s, n, factor, first, prompts, longest)
    settle(state, s, n, end)
    if lane.linked:
        will_end(lane, state.requests, state.members, state.releases, n)
    run.number, run.choice, run.launched = counts.batches, choice, n
    server.start, server.end = lane.now, end
    server.next_event = end if run.preempted_head == NONE else state.requests[run.preempted_head].last_token
    lane.free -= 1
    lane.in_service += n
    counts.batches += 1
    counts.launched += n
    log_batch(state, s, n)
    return n


@apart
def log_batch(state: State, s, n):
    """Append the batch just launched to the log while there is room."""
    counts = state.counts
    server, run = state.servers[s], state.servers[s].batch
    if counts.logged >= len(state.log):
        return
    row = state.log[counts.logged]
    row["size"] = n  # as an attribute it would be the size of the NumPy scalar where nothing is compiled
    row.server, row.choice, row.start, row.end = s, run.choice, server.start, server.end
    row.preemptions = n - run.completing - (run.drop != NONE)
    row.kv_peak = run.peak
    counts.logged += 1
