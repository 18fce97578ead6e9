"""What the policy `rollout` learns while it schedules: the lengths in every bin, and how arrivals fall on the bins."""

from __future__ import annotations

from numba import njit

from llmsched.policies.rollout.places import (
    ARRIVED,
    BATCHES,
    BIN,
    BIN_ROW,
    EXPECTED,
    FIRST_KEPT,
    KEPT,
    LAST_HEAD,
    LAST_LENGTH,
    OF_SERVERS,
    RATIO,
    SEEN,
    SERVER_ROW,
    TAKEN,
    TIME,
)

FORGET = 0.995
"""Weight that the arrivals so far keep when one more is counted."""

LEARNED = 0.1
"""Weight of a new batch in the average of measured over predicted times."""

FADE = 0.98
"""By this factor the largest time of a batch that was seen in a bin falls with every decision."""


@njit
def look(record, memory):
    """Note the heads that are new since the last decision, and the arrivals since then."""
    compare_times(record, memory)
    for k in range(record.num_bins):
        row = memory[k * BIN_ROW : (k + 1) * BIN_ROW]
        arrived = max(record.queue_length[k] - (row[LAST_LENGTH] - row[TAKEN]), 0.0)
        for other in range(record.num_bins):
            memory[other * BIN_ROW + ARRIVED] *= FORGET**arrived
        row[ARRIVED] += arrived
        row[TIME] = max(record.batch_time[k], FADE * row[TIME])
        row[LAST_LENGTH], row[TAKEN] = record.queue_length[k], 0.0
        if record.queue_length[k] > 0 and record.head_number[k] + 1 != row[LAST_HEAD]:
            at = FIRST_KEPT + 2 * (int(row[SEEN]) % KEPT)
            row[at], row[at + 1] = record.head_prompt[k], record.head_predicted[k]
            row[SEEN] += 1.0
            row[LAST_HEAD] = record.head_number[k] + 1


@njit
def took(record, memory, choice, size):
    """Note what this decision takes."""
    row = server_row(memory, record.server)
    row[BIN] = 0.0
    if choice < record.num_bins and size > 0:
        length = record.queue_length[choice]
        memory[choice * BIN_ROW + TAKEN] = min(size, length)
        if min(size, length) == min(record.target[choice], length):  # the batch whose time is predicted
            row[BIN], row[EXPECTED], row[BATCHES] = choice + 1, record.batch_time[choice], record.server_batches


@njit
def server_row(memory, server):
    """What is kept of a server."""
    at = OF_SERVERS + server * SERVER_ROW
    return memory[at : at + SERVER_ROW]


@njit
def compare_times(record, memory):
    """Learn from the last batch of the asked server how wrong the predicted times of its bin are."""
    row = server_row(memory, record.server)
    if row[BIN] > 0.0 and record.server_batches == row[BATCHES] + 1 and row[EXPECTED] > 0.0:
        at = int(row[BIN] - 1.0) * BIN_ROW + RATIO
        memory[at] += LEARNED * (record.last_service / row[EXPECTED] - 1.0 - memory[at])
    row[BIN] = 0.0


@njit
def write_free(record, memory, free_at):
    """Write when every server is free, in s from now on, into ``free_at`` (S,)."""
    for s in range(record.num_servers):
        free_at[s] = record.busy[s]
        row = server_row(memory, s)
        if free_at[s] > 0.0 and row[BIN] > 0.0:
            wrong = memory[int(row[BIN] - 1.0) * BIN_ROW + RATIO] * row[EXPECTED]
            free_at[s] = max(free_at[s] + wrong, 1e-3)


@njit
def draw_lengths(record, memory, k, rng):
    """(prompt, predicted output) of a request of bin ``k`` that was seen there, drawn at random; (0, 0): none was."""
    row = memory[k * BIN_ROW : (k + 1) * BIN_ROW]
    known = min(int(row[SEEN]), KEPT)
    if known == 0:
        return 0.0, 0.0
    at = FIRST_KEPT + 2 * min(int(rng.random() * known), known - 1)
    return row[at], row[at + 1]


@njit
def write_shares(record, memory, shares):
    """Write the share of the arrivals that falls on each bin, summed up, into ``shares`` (K,)."""
    total = 0.0
    for k in range(record.num_bins):
        row = memory[k * BIN_ROW : (k + 1) * BIN_ROW]
        total += row[ARRIVED] if row[SEEN] > 0.0 else 0.0
        shares[k] = total
    for k in range(record.num_bins):
        shares[k] = shares[k] / total if total > 0.0 else 1.0
