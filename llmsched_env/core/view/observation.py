"""The observation: the decision record as bounded float32, of one layout for any number of bins and servers."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import MAX_SERVERS

GLOBAL = (
    # name, meaning, unit, scale
    ("free", "free servers, the asked one included", "share of the servers", "linear"),
    ("servers", "number of servers", "servers", "log2(x) / 7"),
    ("busy_min", "predicted remaining busy time of the servers: smallest", "s", "x / (x + T)"),
    ("busy_q25", "... first quartile", "s", "x / (x + T)"),
    ("busy_median", "... median", "s", "x / (x + T)"),
    ("busy_q75", "... third quartile", "s", "x / (x + T)"),
    ("busy_max", "... largest", "s", "x / (x + T)"),
    ("busy_mean", "... mean", "s", "x / (x + T)"),
    ("kv_reserved", "KV memory reserved by running batches, mean over servers", "share of capacity", "linear"),
    ("rate_fast", "arrivals expected in T per server, from about the last 16 gaps", "requests", "log2(1 + x) / 12"),
    ("rate_slow", "... from about the last 256 gaps", "requests", "log2(1 + x) / 12"),
    ("since_arrival", "time since the last arrival", "s", "x / (x + T)"),
    ("oldest_wait", "time that the oldest waiting request has waited", "s", "x / (x + T)"),
    ("waiting", "waiting requests", "requests", "log2(1 + x) / 20"),
    ("waiting_per_server", "waiting requests per server", "requests", "x / (x + max_batch)"),
    ("in_service", "requests in service", "share of servers x max_batch", "linear"),
    ("tau", "average time between tokens of all batches", "s", "x / (x + 0.1)"),
    ("mean_batch", "average decode batch of all batches", "share of max_batch", "linear"),
    ("last_service", "service time of the asked server's last batch", "s", "x / (x + T)"),
    ("can_wait", "1 when an event can come if nothing is started", "0 or 1", "linear"),
)
"""Entries that exist once."""

PER_BIN = (
    ("queue", "waiting requests", "requests", "log2(1 + x) / 20"),
    ("queue_in_batches", "waiting requests in batches of the controllers' target", "batches", "x / (x + 1)"),
    ("head_wait", "time that the first request has waited", "s", "x / (x + T)"),
    ("head_predicted", "predicted output of the first request", "tokens", "log2(1 + x) / 20"),
    ("head_prompt", "prompt of the first request", "tokens", "log2(1 + x) / 20"),
    ("batch_time", "predicted service time of the head batch on the asked server", "s", "x / (x + T)"),
    ("slack", "time left to the first request's deadline if that batch started now", "s", "x / (|x| + T)"),
    ("target", "the controllers' batch size", "share of max_batch", "linear"),
    ("low", "lower bound of the SLA controller", "share of max_batch", "linear, clipped"),
    ("high", "upper bound of the SLA controller", "share of max_batch", "linear, clipped"),
    ("mean_tokens", "average prompt + output of what completed here", "tokens", "log2(1 + x) / 20"),
    ("served", "1 when this choice has something to serve", "0 or 1", "linear"),
    ("overdue", "1 when this choice serves overdue requests", "0 or 1", "linear"),
)
"""Entries that exist for every bin up to ``max_bins``, for `any`, and for the overdue queue where there is one."""

SLACK = [name for name, *_ in PER_BIN].index("slack")


def size(max_bins: int, overdue: bool = False) -> int:
    """Number of entries that all engines share, for up to ``max_bins`` bins and perhaps an ``overdue`` queue."""
    return len(GLOBAL) + (max_bins + 1 + overdue) * len(PER_BIN)


def names(max_bins: int, overdue: bool = False) -> list[str]:
    """Name of every shared entry, in order: ``free``, ..., ``bin0.queue``, ..., ``any.served``, ..."""
    choices = [f"bin{k}" for k in range(max_bins)] + ["any"] + ["overdue"] * overdue
    return [name for name, *_ in GLOBAL] + [f"{choice}.{name}" for choice in choices for name, *_ in PER_BIN]


@part
def squash(x, scale):
    """x / (x + scale) of a time >= 0: 0 at once, 1 never; infinite times are 1."""
    return 1.0 if x == math.inf else max(x, 0.0) / (max(x, 0.0) + scale)


@part
def squash_log(x, full):
    """log2(1 + x) / ``full``, at most 1."""
    return 0.0 if x == 0.0 else min(math.log2(1.0 + x) / full, 1.0)


@part
def write_observation(record, out, scale, max_bins, order):
    """Write the image of ``record`` into ``out`` (size,) float32; ``scale`` is T in s, ``order`` (servers,) scratch."""
    _write_servers(record, out, scale, order)
    now, servers = record.now, float(record.num_servers)
    cap, k_any = float(record.max_batch), record.num_bins
    out[8] = min(record.kv_reserved_share, 1.0)
    out[9] = squash_log(record.rate_fast * scale / servers, 12.0)
    out[10] = squash_log(record.rate_slow * scale / servers, 12.0)
    out[11] = 1.0 if math.isnan(record.last_arrival) else squash(now - record.last_arrival, scale)
    out[12] = 0.0 if record.oldest_arrival == math.inf else squash(now - record.oldest_arrival, scale)
    waiting = record.waiting - (record.queue_length[record.overdue] if record.overdue >= 0 else 0)
    out[13] = squash_log(float(waiting), 20.0)
    out[14] = waiting / (waiting + servers * cap)
    out[15] = min(record.in_service / (servers * cap), 1.0)
    out[16] = squash(record.tau[k_any], 0.1)
    out[17] = min(record.mean_batch[k_any] / cap, 1.0)
    out[18] = squash(record.last_service, scale)
    out[19] = float(record.can_wait)
    at = len(GLOBAL)
    for k in range(max_bins + 1):
        if k < record.num_bins:
            _write_choice(record, k, out, at, scale)
        elif k == max_bins:
            _write_choice(record, k_any, out, at, scale)
        else:
            for j in range(len(PER_BIN)):
                out[at + j] = 0.0
        at += len(PER_BIN)
    if record.overdue >= 0:
        _write_choice(record, record.overdue, out, at, scale)


@part
def _write_servers(record, out, scale, order):
    """Entries 0 to 7: how many servers are free, and quantiles of when the others will be."""
    n = record.num_servers
    total = 0.0
    for s in range(n):  # insertion sort: a few servers, mostly in order
        value = record.busy[s]
        total += value
        at = s
        while at > 0 and order[at - 1] > value:
            order[at] = order[at - 1]
            at -= 1
        order[at] = value
    out[0] = record.free_servers / n
    out[1] = math.log2(float(n)) / math.log2(float(MAX_SERVERS))
    for j in range(5):
        place = 0.25 * j * (n - 1)
        low = int(place)
        high = min(low + 1, n - 1)
        out[2 + j] = squash(order[low] + (place - low) * (order[high] - order[low]), scale)
    out[7] = squash(total / n, scale)


@part
def _write_choice(record, k, out, at, scale):
    """The entries of one choice from ``out[at]`` on."""
    length, cap = float(record.queue_length[k]), float(record.max_batch)
    batches = length / max(record.target[k], 1)
    out[at] = squash_log(length, 20.0)
    out[at + 1] = batches / (batches + 1.0)
    out[at + 2] = squash(record.now - record.head_arrival[k], scale) if length > 0 else 0.0
    out[at + 3] = squash_log(float(record.head_predicted[k]), 20.0)
    out[at + 4] = squash_log(float(record.head_prompt[k]), 20.0)
    out[at + 5] = squash(record.batch_time[k], scale)
    slack = record.slack[k]
    out[at + 6] = 1.0 if slack == math.inf else slack / (abs(slack) + scale)
    out[at + 7] = record.target[k] / cap
    out[at + 8] = min(max(record.low[k] / cap, 0.0), 1.0)
    out[at + 9] = min(max(record.high[k] / cap, 0.0), 1.0)
    out[at + 10] = squash_log(record.mean_tokens[k], 20.0)
    out[at + 11] = 1.0 if length > 0 else 0.0
    overdue = record.overdue >= 0 and length > 0 and k >= record.num_bins
    if k == record.num_bins:  # `any` serves the overdue queue while the bins are empty
        overdue = overdue and record.queue_length[record.overdue] == record.waiting
    out[at + 12] = 1.0 if overdue else 0.0
