"""Decisions on a grid: the answers of a policy to records of a run in which two quantities have other values.

Everything that follows from the two is set as well, so that the record could occur: the predicted time of the head
batch, the deadline and the arrival of the head, and the whole choice `any`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.runs.recording import Recording
from llmsched.policies import Bound, ReadyPolicy
from llmsched_env.simulation.compiled_calls import call_compiled

ANY, WAIT, NEVER = -1, -2, -3
"""Answers that are no bin, for any number of bins; NEVER: a state that cannot occur."""

SAMPLE = 24
"""Records of the run that a map is made from."""

MANY_ENOUGH = 0.1
"""A cell is drawn where at least this share of the records can be set to it."""

MOST_LENGTHS, ROWS = 8, 10
"""Most columns, and about the number of rows, of a map."""


@dataclass(frozen=True)
class MapAxes:
    """The axes of a map: ``lengths`` (X,), requests in the bin; ``slacks`` (Y,), seconds left to the deadline of the
    first request if its batch started now, highest first; ``step``, seconds between two of them."""

    lengths: NDArray[np.int64]
    slacks: NDArray[np.float64]
    step: float


@dataclass(frozen=True)
class DecisionMap:
    """The answers of a policy over length and slack of ``bin``, (Y, X).

    The most frequent ``choice`` (a bin, ANY, WAIT or NEVER), its ``share`` of the answers, the median ``size`` of its
    batches, and which cells the run ``visited``.
    """

    bin: int
    choice: NDArray[np.int64]
    share: NDArray[np.float64]
    size: NDArray[np.float64]
    visited: NDArray[np.bool_]


def axes_of(recordings: list[Recording], target_s: float) -> MapAxes:
    """Axes that hold nearly all that the runs met; lengths are powers of two."""
    lengths, slacks = [np.ones(1)], [np.full(1, 0.5 * target_s)]
    for recording in recordings:
        records = recording.records
        bins = int(records["num_bins"][0])
        held = records["queue_length"][:, :bins] > 0
        lengths.append(records["queue_length"][:, :bins][held])
        slacks.append(records["slack"][:, :bins][held])
    longest = np.quantile(np.concatenate(lengths), 0.995)
    count = int(np.clip(np.ceil(np.log2(longest)) + 1, 4, MOST_LENGTHS))
    low = float(np.clip(np.quantile(np.concatenate(slacks), 0.01), -target_s, 0.3 * target_s))
    rough = (target_s - low) / ROWS
    step = next(s for s in _round_steps(rough) if s >= 0.75 * rough)
    first = step * np.floor(low / step)
    return MapAxes(2 ** np.arange(count), np.arange(first, target_s - 0.25 * step, step)[::-1], step)


def _round_steps(rough: float) -> list[float]:
    decade = 10.0 ** np.floor(np.log10(rough))
    return [decade * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0)]


def service_lines(records: NDArray) -> NDArray[np.float64]:
    """Predicted time of a head batch as a line in its size, (K + 1, 2): s, and s per request; 0: there was none."""
    choices = int(records["num_bins"][0]) + 1
    lines = np.zeros((choices, 2))
    for k in range(choices):
        size = np.minimum(records["queue_length"][:, k], records["target"][:, k]).astype(np.float64)
        time = records["batch_time"][:, k]
        size, time = size[size > 0], time[size > 0]
        if len(size) == 0:
            continue
        spread = size.var()
        slope = max(0.0, float(np.mean((size - size.mean()) * (time - time.mean())) / spread)) if spread else 0.0
        lines[k] = max(float(time.mean() - slope * size.mean()), 0.1 * float(time.mean())), slope
    return lines


@dataclass(frozen=True)
class RunFacts:
    """What a run says about records that did not occur: the ``lines`` of service_lines; ``arrivals`` (N,), seconds, by
    request number; the ``discipline`` inside the bins."""

    lines: NDArray[np.float64]
    arrivals: NDArray[np.float64]
    discipline: str


def facts_of(recording: Recording) -> RunFacts:
    """The facts of a run whose records were kept."""
    result = recording.result
    discipline = result.config.queueing.discipline
    return RunFacts(service_lines(recording.records), result.requests["arrival"].copy(), discipline)


def place_records(
    records: NDArray, k: int, length: int, slack_s: float, give_s: float, facts: RunFacts
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Copies of ``records`` in which bin ``k`` holds ``length`` requests and its first one has the slack ``slack_s``.

    The slack is up to ``give_s`` less where that request would not have arrived yet.  Also returns (D,) where that was
    enough: elsewhere the record cannot occur.
    """
    found, any_ = records.copy(), int(records["num_bins"][0])
    _set_time(found, k, length, facts.lines)
    target = found["head_deadline"][:, k] - found["head_arrival"][:, k]
    most = target - found["batch_time"][:, k]
    found["slack"][:, k] = np.minimum(slack_s, most)
    found["head_deadline"][:, k] = found["now"] + found["batch_time"][:, k] + found["slack"][:, k]
    found["head_arrival"][:, k] = found["head_deadline"][:, k] - target
    found["head_number"][:, k] = np.searchsorted(facts.arrivals, found["head_arrival"][:, k] - 1e-6)
    _set_any(found, any_, facts)
    return found, slack_s - most <= give_s


def _set_time(found: NDArray, k: int, length: NDArray | int, lines: NDArray) -> None:
    """Set the length of choice ``k``, and the time of its head batch by its line."""
    before = np.minimum(found["queue_length"][:, k], found["target"][:, k])
    found["queue_length"][:, k] = length
    after = np.minimum(length, found["target"][:, k])
    base, slope = lines[k]
    found["batch_time"][:, k] *= (base + slope * after) / (base + slope * before)


def _set_any(found: NDArray, any_: int, facts: RunFacts) -> None:
    """Set the fields that exist once, and those of the choice `any`, from the bins."""
    lengths, overdue = found["queue_length"][:, :any_], int(found["overdue"][0])
    found["waiting"] = lengths.sum(axis=1) + (found["queue_length"][:, overdue] if overdue >= 0 else 0)
    _set_time(found, any_, lengths.sum(axis=1), facts.lines)
    keys = {"sjf": "head_predicted", "edf": "head_deadline"}
    key = np.where(lengths > 0, found[keys.get(facts.discipline, "head_arrival")][:, :any_], np.inf)
    first, row = key.argmin(axis=1), np.arange(len(found))
    for name in ("head_number", "head_arrival", "head_prompt", "head_predicted", "head_deadline"):
        found[name][:, any_] = found[name][row, first]
    found["slack"][:, any_] = found["head_deadline"][:, any_] - found["now"] - found["batch_time"][:, any_]
    heads = found["head_arrival"][:, :any_].min(axis=1)
    found["oldest_arrival"] = heads if facts.discipline == "fifo" else np.minimum(found["oldest_arrival"], heads)


def answers(policy: ReadyPolicy, records: NDArray, memories: NDArray, seed: int = 0) -> NDArray[np.int64]:
    """The answers of ``policy``, (D, 2): the choice (a bin, K for the overdue queue, ANY or WAIT) and the number of
    requests taken."""
    decide, params, rng = policy.decide, np.asarray(policy.params), np.random.default_rng(seed)
    found = np.empty((len(records), 2), np.int64)
    for i in range(len(records)):
        choice, size = call_compiled(decide, records[i], params, memories[i].copy(), rng)
        bins = records[i]["num_bins"]
        what = WAIT if size == 0 else ANY if choice == bins else min(choice, bins)
        found[i] = what, min(size, records[i]["queue_length"][choice])
    return found


def sample_decisions(recording: Recording, k: int) -> NDArray[np.int64]:
    """Up to SAMPLE decisions, spread over the run, at which bin ``k`` and another one held requests.

    Where there is none, decisions at which ``k`` alone did.
    """
    lengths = recording.records["queue_length"]
    bins = int(recording.records["num_bins"][0])
    own = lengths[:, k] > 0
    both = own & ((lengths[:, :bins] > 0).sum(axis=1) > 1)
    places = np.flatnonzero(both if both.any() else own)
    return places[np.unique(np.linspace(0, len(places) - 1, SAMPLE).astype(int))] if len(places) else places


def map_of(policy: Bound, recording: Recording, k: int, axes: MapAxes) -> DecisionMap:
    """The map of ``policy`` over length and slack of bin ``k``; everything else is as in records of its own run."""
    shape = (len(axes.slacks), len(axes.lengths))
    choice, share, size = np.full(shape, NEVER), np.zeros(shape), np.zeros(shape)
    places, facts = sample_decisions(recording, k), facts_of(recording)
    ready = policy.ready(recording.result.config)
    chosen, memories = recording.records[places], recording.memories[places]
    for (y, x), _ in np.ndenumerate(choice):
        length, slack_s = int(axes.lengths[x]), float(axes.slacks[y])
        records, possible = place_records(chosen, k, length, slack_s, 0.5 * axes.step, facts)
        if possible.sum() < max(1.0, MANY_ENOUGH * len(places)):
            continue
        found = answers(ready, records[possible], memories[possible])
        values, counts = np.unique(found[:, 0], return_counts=True)
        choice[y, x] = values[counts.argmax()]
        share[y, x] = counts.max() / len(found)
        size[y, x] = np.median(found[found[:, 0] == choice[y, x], 1])
    return DecisionMap(k, choice, share, size, visited_cells(recording.records, k, axes))


def visited_cells(records: NDArray, k: int, axes: MapAxes) -> NDArray[np.bool_]:
    """Cells (Y, X) that hold a state of bin ``k`` in the run; each cell extends half way to the next."""
    length, slack = records["queue_length"][:, k], records["slack"][:, k]
    held = (length > 0) & (length <= axes.lengths[-1] * 1.41)
    x = np.searchsorted([np.sqrt(a * b) for a, b in pairwise(axes.lengths)], length[held])
    y = np.rint((axes.slacks[0] - slack[held]) / axes.step).astype(int)
    inside = (y >= 0) & (y < len(axes.slacks))
    found = np.zeros((len(axes.slacks), len(axes.lengths)), np.bool_)
    found[y[inside], x[inside]] = True
    return found
