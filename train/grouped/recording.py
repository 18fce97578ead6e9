"""A policy that draws the actions of a network and writes down what it saw and did, inside the compiled simulator.

Its memory is the log: ``memory[0]`` counts decisions, then every decision has a row of WIDTH numbers: time (s), place
of the action on the ladder of a system with MAX_BINS bins, and the observation for so many bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from llmsched.policies.agent.view import rungs_of, write_image
from llmsched.policies.network.batch_scores import score_actions
from llmsched_env.core.view.decide import DECIDE_SIGNATURE
from llmsched_env.core.view.observation import size

MAX_BINS = 8
"""Bins of the observations; systems with fewer leave the rest empty, which changes no score."""

ENTRIES = size(MAX_BINS, overdue=True)
WIDTH = 2 + ENTRIES
"""Numbers of a decision in the log: time, action, observation."""


def log_for(decisions: int) -> NDArray[np.float64]:
    """An empty log of so many decisions; later ones are not written down."""
    return np.zeros(1 + WIDTH * decisions)


def read_log(memory: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float32]]:
    """(times (N,) in s, actions (N,), observations (N, ENTRIES)) of a log."""
    rows = memory[1 : 1 + WIDTH * int(memory[0])].reshape(-1, WIDTH)
    return rows[:, 0].copy(), rows[:, 1].astype(np.int64), rows[:, 2:].astype(np.float32)


def make_recorder() -> Callable:
    """The compiled policy; its parameters are packed weights, its generator draws the actions (softmax of scores)."""

    @njit(DECIDE_SIGNATURE)
    def recorder(record, params, memory, rng):
        """Draw an action from the scores, and keep the instant, the action and the image in ``memory``."""
        image = np.zeros(ENTRIES, np.float32)  # a system without an overdue queue writes no entries for it
        write_image(record, MAX_BINS, image)
        rungs = rungs_of(record.max_batch)
        scores = np.empty(1 + (MAX_BINS + 2) * rungs)
        score_actions(image, MAX_BINS, record.max_batch, record.can_wait, params, scores)
        best, most = 0, -math.inf
        for i in range(len(scores)):
            if scores[i] > -math.inf:
                drawn = scores[i] - math.log(-math.log(max(rng.random(), 1e-300)))
                if drawn > most:
                    best, most = i, drawn
        at = 1 + WIDTH * int(memory[0])
        if at + WIDTH <= len(memory):
            memory[at], memory[at + 1] = record.now, best
            for j in range(ENTRIES):
                memory[at + 2 + j] = image[j]
            memory[0] += 1.0
        if best == 0:
            return record.num_bins, 0
        choice, rung = (best - 1) // rungs, (best - 1) % rungs
        if choice >= MAX_BINS:
            choice = record.num_bins + choice - MAX_BINS
        if rung == rungs - 1:
            return choice, record.target[choice]
        return choice, min(1 << rung, record.max_batch)

    return recorder


def make_watcher(decide: Callable) -> Callable:
    """The compiled policy that does what ``decide`` does, a policy without memory, and writes it down as the network
    would say it: the target, or the next size of the ladder."""

    @njit(DECIDE_SIGNATURE)
    def watcher(record, params, memory, rng):
        """Decide, and keep the same."""
        choice, size = decide(record, params, np.zeros(1), rng)
        rungs, place = rungs_of(record.max_batch), 0
        if size > 0:
            count, target = record.queue_length[choice], record.target[choice]
            taken, rung = min(size, count), rungs - 1
            if taken != min(target, count):
                rung = 0
                while rung < rungs - 2 and min(1 << rung, record.max_batch) < taken:
                    rung += 1
            kind = choice if choice < record.num_bins else MAX_BINS + choice - record.num_bins
            place = 1 + kind * rungs + rung
        at = 1 + WIDTH * int(memory[0])
        if at + WIDTH <= len(memory):
            image = np.zeros(ENTRIES, np.float32)  # a system without an overdue queue writes no entries for it
            write_image(record, MAX_BINS, image)
            memory[at], memory[at + 1] = record.now, place
            for j in range(ENTRIES):
                memory[at + 2 + j] = image[j]
            memory[0] += 1.0
        return choice, size

    return watcher
