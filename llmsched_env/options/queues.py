"""Options of the queues: bins, order, overdue requests, timers."""

from __future__ import annotations

import math

from llmsched_env.core.constants import MAX_BINS
from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import Choice, Form, Number
from llmsched_env.options.words import DISCIPLINES, ORDERS

TIMER = Number(0, above=True, unlimited=True)

QUEUES = (
    Option(
        "bins",
        "Queues by predicted output length: their number K (cut at quantiles of past predictions), or the lower bounds "
        "of the bins in predicted tokens, such as (0,64,256,1024).",
        Form(f"a number of bins from 1 to {MAX_BINS}, or lower bounds like (0, 64, 256, 1024)"),
        4,
        sets="queueing.edges",
        json="bin_edges",
        group="queues",
        flag="--bins",
        metavar="K|BOUNDS",
    ),
    Option(
        "discipline",
        "Order inside a bin: fifo (first come, first served), sjf (shortest predicted output first), edf (earliest "
        "deadline first), slack (least time to spare first) or priority (age and shortness).",
        Choice(DISCIPLINES),
        "fifo",
        sets="queueing.discipline",
        group="queues",
        flag="--discipline",
        flag_kind=Choice(ORDERS),
        flag_note="A policy with an order of its own keeps it.",
        argument_note="oracle-sjf and oracle-srpt use the true output lengths.",
    ),
    Option(
        "overdue_factor",
        "A waiting request with less time left to its deadline than X times its own service time is overdue: it leaves "
        "its bin and is served when nothing else waits.",
        Number(0, 1e6, optional=True),
        sets="queueing.overdue_factor",
        group="queues",
        flag="--overdue-factor",
        metavar="X",
        none="no request is overdue",
        old_names=("late_bin",),
        old_flags=("--late-bin",),
    ),
    Option(
        "overdue_batch_factor",
        "A request is overdue too if it has less time left to its deadline than X times the service time of the batch "
        "that it would join. Needs the overdue factor.",
        Number(0, 1e6, optional=True),
        sets="queueing.overdue_batch_factor",
        engine="batch",
        group="queues",
        flag="--overdue-batch-factor",
        metavar="X",
        none="the batch is not looked at",
        old_names=("triage",),
        old_flags=("--triage",),
    ),
    Option(
        "hold_s",
        "Hold timer: ask the scheduler again when the oldest waiting request has waited this long.",
        TIMER,
        math.inf,
        "s",
        "queueing.hold_s",
        label="hold timer",
        unlimited="off",
        group="queues",
        flag="--hold",
        metavar="SECONDS",
        flag_note="A policy with a timer of its own keeps it.",
    ),
    Option(
        "tick_s",
        "Tick timer: ask the scheduler again at every multiple of this time.",
        TIMER,
        math.inf,
        "s",
        "queueing.tick_s",
        label="tick timer",
        unlimited="off",
        group="queues",
        flag="--tick",
        metavar="SECONDS",
        flag_note="A policy with a timer of its own keeps it.",
    ),
)
