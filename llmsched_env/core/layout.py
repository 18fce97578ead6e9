"""The state of the simulator, once: every structured dtype, its units and its sentinels.

PARAMS and HARDWARE hold what stays as it is, once per simulator.  Everything else is state, with a leading axis of
lanes (state.TABLE has the shapes).  Times are float64 seconds, lengths tokens.
"""

from __future__ import annotations

import numpy as np

from llmsched_env.core.constants import (  # noqa: F401  (sentinels and statuses are part of the layout)
    ABANDONED,
    BLOCK_TOKENS,
    CHOICES,
    COMPLETED,
    DROPPED,
    IN_SERVICE,
    LAST_CLASS,
    LAW_NUMBERS,
    LEAST_COMPUTED,
    MAX_BINS,
    MAX_SERVERS,
    NEWEST,
    NONE,
    PENDING,
    REFUSED,
    REJECTED,
    RESIDUAL,
    WAITING,
)
from llmsched_env.core.memory.rows import CHAIN, ENTRY, EXTENT, POOL  # noqa: F401
from llmsched_env.core.queueing.entries import BATCH, ENDS, EXPIRY, LINK, RELEASE  # noqa: F401
from llmsched_env.core.view.route_row import READING, ROUTE_RECORD, ROUTING  # noqa: F401
from llmsched_env.core.view.row import OUTCOME, RECORD  # noqa: F401

# What `advance` returns.
DECIDE, DRAINED, HORIZON, NEED_MORE, BAD_BIN, BAD_SIZE, ROUTE, BAD_SERVER = range(8)

LAST = 2
"""Value of ``final`` where the run is over with its last request, and not only at the horizon."""

# What `step_lanes` does with a lane.
SKIP, START, STEP = range(3)

# Latency forms (profiles.FORMS in this order) and the two lengths of `batch-length`.
SPLIT, TOKENS, BATCH_LENGTH, AFFINE, FLOOR, EXPERTS, TABLE = range(7)

REQUEST = np.dtype(
    [
        ("arrival", "f8"),
        ("prompt", "i4"),
        ("output", "i4"),  # the truth; no record shows it
        ("predicted", "i4"),
        ("generated", "i4"),  # output tokens from earlier batches (after a preemption)
        ("next", "i4"),  # next in its bin, or NONE
        ("prev", "i4"),  # the one before it there, where bins are lists
        ("prefilled", "i4"),  # engine `continuous`: tokens of its stay that are prefilled, or were found
        ("bin", "i1"),
        ("slo_class", "i1"),
        ("status", "i1"),
        ("missed", "i1"),  # 1 once its SLO miss has been charged
        ("overdue", "i1"),  # 1: it is, or was, in the overdue queue
        ("group", "i1"),  # set of bins it waits in: its server where arrivals are routed, else 0
        ("server", "i1"),  # engine `continuous`: its last server, or NONE
        ("reason", "i1"),  # why it was refused: place in constants.REASONS
        ("dispatch", "f8"),  # first dispatch; NaN: not yet
        ("first_token", "f8"),  # end of its first prefill; NaN: not yet
        ("last_token", "f8"),  # its own last token; NaN: not yet
        ("completion", "f8"),  # release; NaN: not yet
        ("left", "f8"),  # when it was refused or abandoned; NaN: it was not
        ("key", "f8"),  # static order inside a bin (FIFO: the arrival)
        ("preemptions", "i4"),
        ("batch", "i4"),  # engine `batch`: number of its last batch, or NONE
    ],
    align=True,
)

BIN = np.dtype(  # of every group K bins and the overdue queue, if any; last `any`, which uses the controller part only
    [
        ("head", "i4"),  # first waiting request, or NONE
        ("tail", "i4"),
        ("last_preempted", "i4"),  # last of the preempted ones that stand in front, or NONE
        ("length", "i4"),  # waiting requests
        ("cursor", "i4"),  # scratch: a request of it, while batches are looked at
        ("heap_size", "i4"),  # waiting requests that are ordered by a key (not FIFO)
        ("batches", "i4"),  # completed batches that fed this controller
        ("mean_l", "f8"),  # average of prompt + output of completed requests, tokens
        ("mean_l2", "f8"),
        ("buffer", "f8"),  # L0, tokens
        ("memory_target", "f8"),
        ("memory_updates", "i4"),
        ("decode_seen", "i4"),  # decode work since the memory target was last recomputed
        ("tau", "f8"),  # average time between tokens, s
        ("mean_batch", "f8"),  # average batch size in decode
        ("low", "f8"),
        ("high", "f8"),
        ("sla_updates", "i4"),
        ("target", "i4"),  # min of the two, what a scheduler reads
    ],
    align=True,
)

HARDWARE = np.dtype(  # one server, as it stays
    [
        ("eta", "f8"),  # KV capacity, tokens
        ("capacity", "f8"),  # KV capacity, blocks
        ("form", "i4"),  # SPLIT, TOKENS, BATCH_LENGTH, AFFINE, FLOOR, EXPERTS or TABLE
        ("total_length", "i4"),  # batch-length: 1 when L counts the prompt too
        ("c", "f8", (LAW_NUMBERS,)),  # the latency law in s and tokens: profiles.Profile.numbers
        ("noise_sigma", "f8"),
    ],
    align=True,
)

RUNNING_BATCH = np.dtype(  # engine `batch`
    [
        ("number", "i4"),  # NONE: the server is free
        ("choice", "i4"),  # the choice that it was formed from
        ("completing", "i4"),  # members that complete in it
        ("deadline_misses", "i4"),  # ... of which this many complete after their deadline
        ("tpot_misses", "i4"),  # ... of which this many miss their TPOT target only
        ("drop", "i4"),  # the request that is dropped at its end, or NONE
        ("sum_l", "f8"),  # sum of prompt + output of the members that complete
        ("sum_l2", "f8"),
        ("worst_e2e", "f8"),  # largest E2E of those members, s
        ("steps", "i4"),  # decode steps
        ("launched", "i4"),  # members at dispatch
        ("member_steps", "f8"),
        ("decode_s", "f8"),  # time of those steps
        ("peak", "f8"),  # most KV tokens
        ("preempted_head", "i4"),  # its preemptions still to come, a list through REQUEST.next, or NONE
        ("preempted_tail", "i4"),
    ],
    align=True,
)

RUNNING_SET = np.dtype(  # engine `continuous`
    [
        ("running", "i4"),  # members
        ("decoding", "i4"),  # ... of which this many decode; they lie in State.slots
        ("scored", "i4"),  # ... of which this many are scored (not warm-up)
        ("prefill_head", "i4"),  # the others, a list through REQUEST.next in order of admission, or NONE
        ("prefill_tail", "i4"),
        ("prefilling", "i4"),
        ("backlog", "f8"),  # tokens left to prefill
        ("most", "f8"),  # tokens of one prompt that the next iteration prefills at most
        ("promised", "f8"),  # predicted tokens that the members still lack, in sum
        ("context", "f8"),  # tokens of context of the decoding members at the start of the segment
        ("blocks", "f8"),  # blocks with keys and values
        ("prompt_blocks", "f8"),  # ... that the prompts of members are still to take
        ("residue", "i4", (BLOCK_TOKENS,)),  # decoding members by (context - 1 - iteration) mod 16
        ("iteration", "i8"),  # iterations in which a member decoded
        ("last_step", "f8"),  # end of the last of them
        ("stalled", "i4"),  # 1: a prefill came between two tokens of a member
        ("fresh", "i4"),  # prefill_first: members that began to decode since then, a list through REQUEST.next
        # asynchronous scheduling (engines/continuous/ahead.py)
        ("composed", "i4"),  # 1: the decisions of this instant were due one boundary earlier
        ("known", "f8"),  # ... at this time
        ("quiet", "i4"),  # 1: a member was preempted, nobody joins
        ("leaving", "i4"),  # members that complete now, a list through REQUEST.next
        ("leaving_head", "i4"),
        ("leaving_blocks", "f8"),
        # its segment: iterations until something changes
        ("kind", "i4"),  # IDLE, DECODING or PREFILLING
        ("planned", "i8"),  # iterations
        ("iterations_in_piece", "i8"),  # ... that the latency form has as one line in the context
        ("iteration_s", "f8"),  # the k-th takes iteration_s + growth_s * (k - 1)
        ("growth_s", "f8"),
        ("boundary", "i8"),  # iterations of it that are over at the boundary where the server stands or will be asked
        ("at_boundary", "i4"),  # 1: may be asked now
        ("changed", "i4"),  # 1: the segment is over
        ("seen", "i8"),  # LANE.events when it was last parked
        # its SLA controller
        ("tau", "f8"),
        ("mean_batch", "f8"),
        ("low", "f8"),
        ("high", "f8"),
        ("sla_updates", "i4"),
        ("window_start", "f8"),
        ("window_time", "f8"),  # time, iterations and member-iterations since then
        ("window_steps", "f8"),
        ("window_members", "f8"),
    ],
    align=True,
)

SERVER = np.dtype(
    [
        ("next_event", "f8"),  # its next preemption or completion; inf: free
        ("start", "f8"),  # start of its batch, or of its segment
        ("end", "f8"),  # end of its batch, or of its segment; inf: free
        ("predicted_end", "f8"),  # end of its batch if the predictions were true
        ("reserved", "f8"),  # KV reservation of its members, tokens
        ("waiting", "i4"),  # requests that wait for this server alone (routed)
        ("queued_tokens", "f8"),  # ... and their prompt + generated
        ("busy_s", "f8"),  # total
        ("peak_ever", "f8"),
        ("batches", "i4"),  # completed batches, or completed requests
        ("last_size", "i4"),  # of the last of them
        ("last_service", "f8"),
        ("last_e2e", "f8"),
        ("last_kv_share", "f8"),
        ("batch", RUNNING_BATCH),
        ("set", RUNNING_SET),
        ("read", READING),
    ],
    align=True,
)

IDLE, DECODING, PREFILLING = range(3)  # kinds of a segment

SLOT = np.dtype([("request", "i4"), ("finish", "i8")], align=True)
"""A decoding member: the iteration of its server that gives its last token.  A heap per server, first end first."""


PARAMS = np.dtype(  # what stays as it is, the same for all lanes
    [
        ("num_bins", "i4"),  # K
        ("rows", "i4"),  # rows BIN of a group: K, and one more for the overdue queue
        ("num_servers", "i4"),
        ("max_batch", "i4"),
        ("groups", "i4"),  # sets of bins: 1, or one per server
        ("keyed", "i4"),  # 1: bins are heaps by key
        ("preemptive", "i4"),  # oracle-srpt
        ("has_overdue", "i4"),  # 1: there is an overdue queue
        ("refuses_overdue", "i4"),  # 1: what becomes overdue is refused
        ("overdue_factor", "f8"),  # config.Queueing.overdue_factor
        ("overdue_batch_factor", "f8"),  # config.Queueing.overdue_batch_factor; 0: none
        ("gated", "i4"),  # 1: an arrival may be refused
        ("exits", "i4"),  # 1: waiting requests may leave without service
        ("key_rate", "f8"),  # by how much the key of a bin grows with the arrival
        ("class_step", "f8"),  # how far the keys of two classes in a row lie apart; 0: classes are equal
        ("patience", "f8"),  # s; inf: clients wait for ever
        ("queue_cap", "i4"),  # 0: none
        ("accept_rate", "f8"),  # of the token bucket, requests/s; inf: none
        ("accept_burst", "f8"),
        ("refusals", "i4"),  # 1: the scheduler may refuse
        ("max_tokens", "f8"),
        ("max_wait", "f8"),
        ("hold", "f8"),
        ("tick", "f8"),
        ("release_own", "i4"),
        ("track", "i4"),  # 1: rewards and deadlines are accounted
        ("max_eta", "f8"),
        ("overhead", "f8"),
        ("horizon", "f8"),
        # controllers
        ("tbt", "f8"),
        ("eps", "f8"),
        ("alpha", "f8"),
        ("delta", "f8"),
        ("b_min", "f8"),
        ("theta", "f8"),
        ("ema", "f8"),
        ("eta_min", "f8"),
        ("peer", "i4"),
        # what the engine is like
        ("asks_busy", "i4"),  # 1: a server that has work may be asked too
        ("stamps_ahead", "i4"),  # 1: stamps are set at dispatch; 0: when they happen
        # engine `continuous`
        ("by_prompt", "i4"),  # admission by the blocks of the prompt
        ("prefill_first", "i4"),
        ("whole", "i4"),  # 1: a prompt is admitted only where the token budget has room for all of it
        ("by_chunk", "i4"),  # 1: admission looks for room for the first chunk only
        ("max_chunk", "f8"),  # tokens of one prompt in an iteration; inf: no limit
        ("victim", "i4"),  # NEWEST, LAST_CLASS or LEAST_COMPUTED
        ("ordered", "i4"),  # 1: preempted requests stand by key among the others; RESIDUAL: by a new key
        ("ahead", "i4"),  # 1: asynchronous scheduling
        ("cached", "i4"),  # 1: there is a prefix cache
        ("routing", "i4"),  # place in config.ROUTINGS
        ("load_age", "f8"),  # s after which a router reads the loads anew
        ("token_budget", "f8"),
        ("watermark", "f8"),
        ("window", "f8"),
    ],
    align=True,
)

COUNTS = np.dtype(  # counts and integrals since the start; batches and segments are numbered by theirs
    [
        ("completed", "i8"),
        ("rejected", "i8"),
        ("dropped", "i8"),
        ("refused", "i8"),
        ("abandoned", "i8"),
        ("preempted", "i8"),
        ("decisions", "i8"),
        ("waits", "i8"),
        ("empty_choices", "i8"),
        ("batches", "i8"),
        ("launched", "i8"),
        ("logged", "i8"),
        ("segments", "i8"),
        ("holding", "f8"),  # integral of the requests in the system, request-seconds
        # only with PARAMS.track
        ("met", "i8"),  # completed requests that met their SLO
        ("misses", "i8"),
        ("tardiness", "f8"),  # integral of LANE.past_deadline, request-seconds
        # gaps between tokens
        ("itl_count", "f8"),
        ("itl_sum", "f8"),
        ("itl_sum2", "f8"),
    ],
    align=True,
)

LANE = np.dtype(
    [
        ("now", "f8"),
        ("loaded", "i8"),  # requests in the arrays
        ("final", "i4"),  # 1: no more requests will be loaded; LAST: nor would any come
        ("warmup", "i8"),  # first request that is scored
        ("noise_key", "u8"),
        ("next_arrival", "i8"),  # number of the next request to arrive
        ("asked", "i4"),  # server whose decision is pending, or NONE
        ("turn", "i4"),  # first server that may still be asked at this instant
        ("free", "i4"),  # free servers
        ("oldest", "i8"),  # keyed bins only: no request before this number waits
        ("patient", "i8"),  # no request before this number waits for its first dispatch
        ("bucket", "f8"),  # level of the token bucket at ...
        ("bucket_time", "f8"),
        ("waiting", "i4"),
        ("in_service", "i4"),
        ("past_deadline", "i4"),  # requests in the system whose deadline has passed (only with PARAMS.track)
        ("expiring", "i8"),  # entries of the heap EXPIRY
        ("next_tick", "i8"),  # multiple of PARAMS.tick that comes next, as last computed
        ("tick_spent", "i4"),  # 1: a tick woke the servers and nothing has happened since
        ("at_tick", "i4"),  # 1: now is a tick
        ("events", "i8"),  # that make every server want to be asked
        ("event_time", "f8"),  # of the last of them
        ("woken", "i4"),  # 1: one of them is now
        ("closed", "i4"),  # 1: an arrival changes nothing before the next server event
        ("router", ROUTING),
        ("linked", "i4"),  # 1: sessions: requests come from the plan, when they are released
        ("clients", "i4"),  # 0: sessions have given starts
        ("next_session", "i8"),  # place in the plan from which the next session is looked for
        ("releases", "i8"),  # entries of the heap RELEASE
        # arrivals as a scheduler sees them
        ("last_arrival", "f8"),  # NaN: none yet
        ("gap_fast", "f8"),  # averages of the gaps, s; NaN: none yet
        ("gap_slow", "f8"),
        ("counts", COUNTS),
    ],
    align=True,
)

SLO_ROW = np.dtype([("ttft", "f8"), ("tpot", "f8"), ("e2e", "f8"), ("next_ttft", "i8"), ("next_e2e", "i8")], align=True)

ITL_LOW_S, ITL_RATIO, ITL_BINS = 1e-6, 1.005, 5600
"""The histogram of gaps between tokens: bin i ends at ITL_LOW_S * ITL_RATIO**i (0.5 % wide, up to 1.3e6 s)."""
