# Made by docs/tools/make_state_stub.py from layout.py, memory/rows.py, view/row.py, state.py; tested.
"""The rows of the state as classes: what kernels read and write by name.  There is no such module at run time."""

from typing import Any, Generic, NamedTuple, TypeVar

Row = TypeVar("Row")

class Fields:
    """A row: fields by name, or by index where the name is one of NumPy's."""

    def __getitem__(self, field: str) -> Any: ...
    def __setitem__(self, field: str, value: Any) -> None: ...

class Rows(Generic[Row]):
    """An array: what stands at place i."""

    def __getitem__(self, place: int) -> Row: ...
    def __setitem__(self, place: int, value: Row) -> None: ...
    def __len__(self) -> int: ...

class Chain(Fields):
    hashes: int  # place of its first hash in State.hashes
    keyed: int  # its blocks that hashes cover wholly
    span: int  # blocks that a hash covers
    own: int  # makes the key of its other blocks: a number that no other request has
    table: int  # place of its first entry in State.tables
    entries: int  # entries of its table
    held: int  # blocks that it refers to
    last: int  # the extent that it took a block of last
    named: int  # blocks that are named, the first ones
    name_entry: int  # ... the next is in this entry,
    name_extent: int  # ... in this extent of it, or it begins behind that,
    name_done: int  # ... behind so many blocks of the entry
    found: int  # blocks that it found at its last admission, or would find
    cached: int  # tokens that it found, over all admissions
    lead: int  # while it decodes: context - iteration
    seat: int  # number of its last admission
    next: int  # in its list of decoding members, or NONE
    prev: int

class Entry(Fields):
    extent: int
    blocks: int

class Extent(Fields):
    key: int  # of the hash, or of the request
    start: int  # place of its first block in that
    length: int  # blocks
    named: int  # ... of which this many are named, the first ones
    refs: int  # members that refer to it
    listed: int  # 1: it can be found
    next: int  # in the queue of free extents, or among the spare rows, or NONE
    prev: int
    chain: int  # next extent in the same bucket, or NONE
    rest: int  # the extent that was cut off behind it, or NONE
    cut_from: int  # ... and back

class Pool(Fields):
    total: int
    free: int  # blocks that no member refers to
    kept: int  # ... of which this many have a name
    spare: int  # first row of EXTENT that was used and is not, or NONE
    fresh: int  # first row that was never used
    oldest: int  # ends of the queue of free extents, or NONE
    newest: int
    seats: int  # admissions so far
    ready: int  # first iteration that is not composed yet
    planned: int  # iterations of the segment if nobody waits for a name
    lacked: int  # block that the request lacks which was refused last, or NONE
    lacked_key: int  # ... its key
    wanted: int  # iteration in which a member names a block with this key, or NONE
    head: Rows[int]  # decoding members, lists by (context - 1 - iteration) mod 16, or NONE
    tail: Rows[int]
    looked_up: int  # tokens, over all admissions
    cached: int
    recomputed: int
    evicted: int  # blocks

class Batch(Fields):
    server: int
    choice: int
    size: int
    preemptions: int
    start: float
    end: float
    kv_peak: float

class Expiry(Fields):
    at: float
    request: int

class Link(Fields):
    think: float
    child: int
    sibling: int
    first: int
    left: int
    planned: int

class Release(Fields):
    at: float
    request: int

class Reading(Fields):
    waiting: int
    running: int
    kv_load: float
    sent: int

class RouteRecord(Fields):
    now: float
    num_servers: int
    max_batch: int
    number: int
    prompt: int
    predicted: int
    slo_class: int
    deadline: float
    rate_fast: float
    rate_slow: float
    last_routed: int
    prefix_cache: int
    load_age: float
    waiting: Rows[int]
    running: Rows[int]
    kv_load: Rows[float]
    sent: Rows[int]
    cached: Rows[int]
    kv_tokens: Rows[float]
    fits: Rows[int]

class Routing(Fields):
    asked: int
    placed: int
    read_at: float
    last: int

class Outcome(Fields):
    status: int  # DECIDE, DRAINED, HORIZON, or a refusal
    miss: float  # - SLO misses / N
    holding: float  # - integral of the requests in the system, s, / N
    tardiness: float  # - integral of those whose deadline has passed, s, / N
    elapsed_s: float
    time_s: float
    empty_choices: int

class Record(Fields):
    now: float
    num_bins: int  # K; number K means `any`
    overdue: int  # the choice that means the overdue queue (K + 1), NONE: there is none
    num_servers: int
    server: int  # the one that is asked
    max_batch: int
    can_wait: int  # 0: no event can come, size 0 would mean (any, max_batch)
    at_tick: int  # 1: woken by the tick
    free_servers: int  # the asked one included
    may_refuse: int  # 1: a size of -n refuses the first n requests of the choice
    patience: float  # s after which clients of waiting requests give up; inf: never
    waiting: int  # in all bins
    in_service: int
    oldest_arrival: float  # of the waiting requests
    last_arrival: float
    rate_fast: float  # arrivals/s over about the last 16 and 256 gaps; 0 before the second arrival
    rate_slow: float
    completed: int
    slo_ttft: float  # targets of class 0, s; inf: none
    slo_tpot: float
    slo_e2e: float
    kv_tokens: float  # capacity of the asked server
    kv_reserved_share: float  # reserved by running batches / capacity, mean over servers
    server_batches: int  # completed batches of the asked server, and its last one:
    last_size: int
    last_service: float  # s
    last_e2e: float  # largest E2E of its members, s
    last_kv_share: float  # peak KV / capacity
    continuous: int  # 1: the engine is `continuous`
    running: int  # members of its running set
    decoding: int  # ... whose prompt is prefilled
    kv_used: float  # tokens in the blocks that they take in the next iteration
    prefill_left: float  # tokens of prompts that are still to be prefilled
    prefix_cache: int  # 1: there is one
    cache_hit_rate: float  # cached tokens over tokens looked up, so far
    kv_kept: float  # tokens in blocks that no member refers to and that can be found again
    queue_length: Rows[int]
    head_number: Rows[int]  # request number, NONE when empty: orders heads by age
    head_arrival: Rows[float]  # inf when empty
    head_prompt: Rows[int]
    head_predicted: Rows[int]
    head_deadline: Rows[float]  # arrival + min(TTFT, E2E target) of its class
    target: Rows[int]  # the controllers' batch size
    low: Rows[float]
    high: Rows[float]
    tau: Rows[float]  # s; 0 before the first batch
    mean_batch: Rows[float]
    mean_tokens: Rows[float]  # mu: prompt + output of completed requests
    batch_time: Rows[float]  # predicted service time of the first min(length, target) here, s
    head_cached: Rows[int]  # tokens of the head that the prefix cache of the asked server holds
    slack: Rows[float]  # head_deadline - now - batch_time, s
    busy: Rows[float]  # predicted remaining busy time by server, 0: free

class Request(Fields):
    arrival: float
    prompt: int
    output: int  # the truth; no record shows it
    predicted: int
    generated: int  # output tokens from earlier batches (after a preemption)
    next: int  # next in its bin, or NONE
    prev: int  # the one before it there, where bins are lists
    prefilled: int  # engine `continuous`: tokens of its stay that are prefilled, or were found
    bin: int
    slo_class: int
    status: int
    missed: int  # 1 once its SLO miss has been charged
    overdue: int  # 1: it is, or was, in the overdue queue
    group: int  # set of bins it waits in: its server where arrivals are routed, else 0
    server: int  # engine `continuous`: its last server, or NONE
    reason: int  # why it was refused: place in constants.REASONS
    dispatch: float  # first dispatch; NaN: not yet
    first_token: float  # end of its first prefill; NaN: not yet
    last_token: float  # its own last token; NaN: not yet
    completion: float  # release; NaN: not yet
    left: float  # when it was refused or abandoned; NaN: it was not
    key: float  # static order inside a bin (FIFO: the arrival)
    preemptions: int
    batch: int  # engine `batch`: number of its last batch, or NONE

class Bin(Fields):
    head: int  # first waiting request, or NONE
    tail: int
    last_preempted: int  # last of the preempted ones that stand in front, or NONE
    length: int  # waiting requests
    cursor: int  # scratch: a request of it, while batches are looked at
    heap_size: int  # waiting requests that are ordered by a key (not FIFO)
    batches: int  # completed batches that fed this controller
    mean_l: float  # average of prompt + output of completed requests, tokens
    mean_l2: float
    buffer: float  # L0, tokens
    memory_target: float
    memory_updates: int
    decode_seen: int  # decode work since the memory target was last recomputed
    tau: float  # average time between tokens, s
    mean_batch: float  # average batch size in decode
    low: float
    high: float
    sla_updates: int
    target: int  # min of the two, what a scheduler reads

class Hardware(Fields):
    eta: float  # KV capacity, tokens
    capacity: float  # KV capacity, blocks
    form: int  # SPLIT, TOKENS, BATCH_LENGTH, AFFINE, FLOOR, EXPERTS or TABLE
    total_length: int  # batch-length: 1 when L counts the prompt too
    c: Rows[float]  # the latency law in s and tokens: profiles.Profile.numbers
    noise_sigma: float

class RunningBatch(Fields):
    number: int  # NONE: the server is free
    choice: int  # the choice that it was formed from
    completing: int  # members that complete in it
    deadline_misses: int  # ... of which this many complete after their deadline
    tpot_misses: int  # ... of which this many miss their TPOT target only
    drop: int  # the request that is dropped at its end, or NONE
    sum_l: float  # sum of prompt + output of the members that complete
    sum_l2: float
    worst_e2e: float  # largest E2E of those members, s
    steps: int  # decode steps
    launched: int  # members at dispatch
    member_steps: float
    decode_s: float  # time of those steps
    peak: float  # most KV tokens
    preempted_head: int  # its preemptions still to come, a list through REQUEST.next, or NONE
    preempted_tail: int

class RunningSet(Fields):
    running: int  # members
    decoding: int  # ... of which this many decode; they lie in State.slots
    scored: int  # ... of which this many are scored (not warm-up)
    prefill_head: int  # the others, a list through REQUEST.next in order of admission, or NONE
    prefill_tail: int
    prefilling: int
    backlog: float  # tokens left to prefill
    most: float  # tokens of one prompt that the next iteration prefills at most
    promised: float  # predicted tokens that the members still lack, in sum
    context: float  # tokens of context of the decoding members at the start of the segment
    blocks: float  # blocks with keys and values
    prompt_blocks: float  # ... that the prompts of members are still to take
    residue: Rows[int]  # decoding members by (context - 1 - iteration) mod 16
    iteration: int  # iterations in which a member decoded
    last_step: float  # end of the last of them
    stalled: int  # 1: a prefill came between two tokens of a member
    fresh: int  # prefill_first: members that began to decode since then, a list through REQUEST.next
    composed: int  # 1: the decisions of this instant were due one boundary earlier
    known: float  # ... at this time
    quiet: int  # 1: a member was preempted, nobody joins
    leaving: int  # members that complete now, a list through REQUEST.next
    leaving_head: int
    leaving_blocks: float
    kind: int  # IDLE, DECODING or PREFILLING
    planned: int  # iterations
    iterations_in_piece: int  # ... that the latency form has as one line in the context
    iteration_s: float  # the k-th takes iteration_s + growth_s * (k - 1)
    growth_s: float
    boundary: int  # iterations of it that are over at the boundary where the server stands or will be asked
    at_boundary: int  # 1: may be asked now
    changed: int  # 1: the segment is over
    seen: int  # LANE.events when it was last parked
    tau: float
    mean_batch: float
    low: float
    high: float
    sla_updates: int
    window_start: float
    window_time: float  # time, iterations and member-iterations since then
    window_steps: float
    window_members: float

class Server(Fields):
    next_event: float  # its next preemption or completion; inf: free
    start: float  # start of its batch, or of its segment
    end: float  # end of its batch, or of its segment; inf: free
    predicted_end: float  # end of its batch if the predictions were true
    reserved: float  # KV reservation of its members, tokens
    waiting: int  # requests that wait for this server alone (routed)
    queued_tokens: float  # ... and their prompt + generated
    busy_s: float  # total
    peak_ever: float
    batches: int  # completed batches, or completed requests
    last_size: int  # of the last of them
    last_service: float
    last_e2e: float
    last_kv_share: float
    batch: RunningBatch
    set: RunningSet
    read: Reading

class Slot(Fields):
    request: int
    finish: int

class Params(Fields):
    num_bins: int  # K
    rows: int  # rows BIN of a group: K, and one more for the overdue queue
    num_servers: int
    max_batch: int
    groups: int  # sets of bins: 1, or one per server
    keyed: int  # 1: bins are heaps by key
    preemptive: int  # oracle-srpt
    has_overdue: int  # 1: there is an overdue queue
    refuses_overdue: int  # 1: what becomes overdue is refused
    overdue_factor: float  # config.Queueing.overdue_factor
    overdue_batch_factor: float  # config.Queueing.overdue_batch_factor; 0: none
    gated: int  # 1: an arrival may be refused
    exits: int  # 1: waiting requests may leave without service
    key_rate: float  # by how much the key of a bin grows with the arrival
    class_step: float  # how far the keys of two classes in a row lie apart; 0: classes are equal
    patience: float  # s; inf: clients wait for ever
    queue_cap: int  # 0: none
    accept_rate: float  # of the token bucket, requests/s; inf: none
    accept_burst: float
    refusals: int  # 1: the scheduler may refuse
    max_tokens: float
    max_wait: float
    hold: float
    tick: float
    release_own: int
    track: int  # 1: rewards and deadlines are accounted
    max_eta: float
    overhead: float
    horizon: float
    tbt: float
    eps: float
    alpha: float
    delta: float
    b_min: float
    theta: float
    ema: float
    eta_min: float
    peer: int
    asks_busy: int  # 1: a server that has work may be asked too
    stamps_ahead: int  # 1: stamps are set at dispatch; 0: when they happen
    by_prompt: int  # admission by the blocks of the prompt
    prefill_first: int
    whole: int  # 1: a prompt is admitted only where the token budget has room for all of it
    by_chunk: int  # 1: admission looks for room for the first chunk only
    max_chunk: float  # tokens of one prompt in an iteration; inf: no limit
    victim: int  # NEWEST, LAST_CLASS or LEAST_COMPUTED
    ordered: int  # 1: preempted requests stand by key among the others; RESIDUAL: by a new key
    ahead: int  # 1: asynchronous scheduling
    cached: int  # 1: there is a prefix cache
    routing: int  # place in config.ROUTINGS
    load_age: float  # s after which a router reads the loads anew
    token_budget: float
    watermark: float
    window: float

class Counts(Fields):
    completed: int
    rejected: int
    dropped: int
    refused: int
    abandoned: int
    preempted: int
    decisions: int
    waits: int
    empty_choices: int
    batches: int
    launched: int
    logged: int
    segments: int
    holding: float  # integral of the requests in the system, request-seconds
    met: int  # completed requests that met their SLO
    misses: int
    tardiness: float  # integral of LANE.past_deadline, request-seconds
    itl_count: float
    itl_sum: float
    itl_sum2: float

class Lane(Fields):
    now: float
    loaded: int  # requests in the arrays
    final: int  # 1: no more requests will be loaded; LAST: nor would any come
    warmup: int  # first request that is scored
    noise_key: int
    next_arrival: int  # number of the next request to arrive
    asked: int  # server whose decision is pending, or NONE
    turn: int  # first server that may still be asked at this instant
    free: int  # free servers
    oldest: int  # keyed bins only: no request before this number waits
    patient: int  # no request before this number waits for its first dispatch
    bucket: float  # level of the token bucket at ...
    bucket_time: float
    waiting: int
    in_service: int
    past_deadline: int  # requests in the system whose deadline has passed (only with PARAMS.track)
    expiring: int  # entries of the heap EXPIRY
    next_tick: int  # multiple of PARAMS.tick that comes next, as last computed
    tick_spent: int  # 1: a tick woke the servers and nothing has happened since
    at_tick: int  # 1: now is a tick
    events: int  # that make every server want to be asked
    event_time: float  # of the last of them
    woken: int  # 1: one of them is now
    closed: int  # 1: an arrival changes nothing before the next server event
    router: Routing
    linked: int  # 1: sessions: requests come from the plan, when they are released
    clients: int  # 0: sessions have given starts
    next_session: int  # place in the plan from which the next session is looked for
    releases: int  # entries of the heap RELEASE
    last_arrival: float  # NaN: none yet
    gap_fast: float  # averages of the gaps, s; NaN: none yet
    gap_slow: float
    counts: Counts

class SloRow(Fields):
    ttft: float
    tpot: float
    e2e: float
    next_ttft: int
    next_e2e: int

class State(NamedTuple):
    """One lane as the kernels see it (state.State)."""

    params: Params  # what stays as it is
    hardware: Rows[Hardware]  # the servers' latency law and memory
    lane: Lane  # the clock, what is asked, the counts
    bins: Rows[Bin]  # queues group by group (queueing.queues), then the controller of `any`
    servers: Rows[Server]  # what every server does
    requests: Rows[Request]  # request i is row i
    heap: Any  # request numbers of bins that are ordered by a key
    slos: Rows[SloRow]  # targets, and how far deadlines were looked at
    members: Rows[int]  # room for the batch that is being formed
    log: Rows[Batch]  # the batches, where they are logged
    gaps: Rows[int]  # histogram of the gaps between tokens, where it is kept
    slots: Rows[Rows[Slot]]  # decoding members of every server
    expiry: Rows[Release]  # when waiting requests become overdue
    chains: Rows[Chain]  # request i as the prefix cache sees it
    pools: Rows[Pool]  # the prefix cache of every server
    extents: Rows[Rows[Extent]]  # ... its blocks, those that go together as one
    buckets: Any  # ... 1 + the first extent of each list of names
    hashes: Rows[int]  # hashes of the requests, one after the other
    tables: Rows[Entry]  # blocks that the requests refer to, one after the other
    plan: Rows[Request]  # requests of sessions, before they arrive
    plan_chains: Rows[Chain]  # ... as the prefix cache sees them
    links: Rows[Link]  # ... what releases them
    releases: Rows[Release]  # ... when they arrive
    counts: Counts  # lane.counts
