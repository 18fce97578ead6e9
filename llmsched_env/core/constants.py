"""Numbers that are compiled in, and that need nothing compiled: sentinels, limits, a block of KV memory."""

NONE = -1
"""No request, no server: the end of every linked list and the value of an index that is not set."""

PENDING, WAITING, IN_SERVICE, COMPLETED, REJECTED, DROPPED, REFUSED, ABANDONED = range(-1, 7)
"""Status of a request.  What has not ended when a run stops (WAITING, IN_SERVICE) is unfinished."""

REASONS = ("", "queue_cap", "rate", "deadline", "scheduler")
"""Why a request was refused, by its place here."""

QUEUE_FULL, BY_RATE, AT_DEADLINE, BY_SCHEDULER = range(1, 5)

MAX_BINS = 32
"""Most bins of predicted length that a simulation can have (the layout of the decision record is fixed)."""

CHOICES = MAX_BINS + 2
"""Entries of everything that exists per choice: K bins, then number K, `any`, then number K + 1, the overdue queue."""

MAX_SERVERS = 128
"""Most servers a simulation can have."""

BLOCK_TOKENS = 16
"""Tokens in a block of KV memory (engine `continuous`)."""

L0_EVERY = 10
"""Recomputations of the memory target between two refreshes of its safety buffer L0."""

ROUTINGS = ("pull", "round-robin", "least-outstanding", "join-shortest-kv", "asked")
"""How an arrival finds its server, by its place here (engine `continuous`); asked: a routing policy names it."""

NOWHERE, ROUTED, TO_ROUTE = range(3)
"""What an engine says of an arriving request: it fits on no server, it has a place, or a server must be named."""

LAW_NUMBERS = 384
"""Numbers that the latency law of a server may have: a `table` holds grids."""

# Who is preempted (options.words.VICTIMS in this order), and a value of PARAMS.ordered.
NEWEST, LAST_CLASS, LEAST_COMPUTED = range(3)
RESIDUAL = 2
