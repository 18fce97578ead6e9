"""A workload: where requests come from, how many, how fast, and what a scheduler is told of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmsched_env.options.table import check_fields, default
from llmsched_env.requests import MAX_CLASSES, MAX_TOKENS, Requests
from llmsched_env.simulation.memory import check_memory, shown
from llmsched_env.workload.arrivals import Arrivals
from llmsched_env.workload.contents import Contents, SharedPrefixes, parse_shared_prefix
from llmsched_env.workload.generators import Generator, generator_names, load_generator
from llmsched_env.workload.lengths import IntPair, LengthLaw
from llmsched_env.workload.predictors import Predictor, parse_predictor
from llmsched_env.workload.replay import CALIBRATION_SHARE, Replay, calibration_rows, replayed_gap_s
from llmsched_env.workload.sessions.checks import check_sessions, session_rate
from llmsched_env.workload.sessions.requests import closed_loop, requests_of_sessions
from llmsched_env.workload.sessions.think import ThinkLaw, parse_think
from llmsched_env.workload.sessions.turns import MOST_TURNS, SessionLaw
from llmsched_env.workload.streams import streams
from llmsched_env.workload.traces import Trace, read_trace

CALIBRATION_REQUESTS = 20_000
"""Requests in the independent sample that bin edges are taken from."""


DRAWN_BYTES = 60
"""Bytes that a drawn request takes while it is drawn."""

LONGEST_S = 1e12
"""Longest span of arrivals in seconds: beyond it times lose their fractions."""

MOST_PIECES = 1e9
"""Most changes of the rate of a generator in one draw, some ten seconds of work."""


class NothingComesError(ValueError):
    """A draw in which no request arrives before the run ends."""


@dataclass(frozen=True)
class Workload:
    """A law of requests; ``draw`` turns it and a seed into arrays.

    ``source`` is the name of a generator, the path of a trace file, or a ``Trace``.  The run ends at
    ``requests`` or ``duration_s``, whichever comes first; a trace with neither is replayed once.
    """

    source: str | Path | Trace = default("workload")
    requests: int | None = None  # how many, the warm-up of a trace included
    duration_s: float | None = default("duration_s")  # the last arrival is not later than this
    rate: float | None = None  # requests/s; None: the generator's or the trace's own
    rate_scale: float = 1.0  # times the own rate (give `rate` or this)
    burstiness: float | None = default("burstiness")  # gamma shape, in place of a generator's own arrivals
    predictor: str = default("predictor")
    shared_prefix: str = default("shared_prefix")  # of a generator: prompts begin with one of some texts
    slo_shares: tuple[float, ...] = (1.0,)  # share of the arrivals in each SLO class
    slo_names: tuple[str, ...] = ()  # of the classes, for a trace that says the class of every row
    concurrency: int | None = default("concurrency")  # clients of a closed loop
    sessions: int | None = default("sessions")  # how many; with `requests` whichever is less
    think: str = default("think")  # times between an answer and the next request of a session or of a client

    def __post_init__(self) -> None:
        check_fields("workload", self)
        if self.rate is not None and self.rate_scale != 1.0:
            raise ValueError(f"rate={self.rate:g} and rate_scale={self.rate_scale:g} contradict: give one of them.")
        self._check_shares()
        self.parsed_predictor  # noqa: B018  (refuses a bad text here, not at the first draw)
        self.prefixes  # noqa: B018
        check_sessions(self)
        self._check_source()

    def _check_shares(self) -> None:
        shares = self.slo_shares
        if not 1 <= len(shares) <= MAX_CLASSES or not all(s >= 0 for s in shares) or abs(sum(shares) - 1.0) > 1e-9:
            raise ValueError(f"slo_shares={shares!r} is not allowed: give shares of at least 0 that add up to 1.")

    def _check_source(self) -> None:
        if isinstance(self.origin, Trace):
            if self.burstiness is not None:
                raise ValueError(f"burstiness={self.burstiness:g}: a trace keeps its own arrivals; use a generator.")
            if self.prefixes is not None:
                raise ValueError(
                    f"shared_prefix={self.shared_prefix!r}: a trace keeps its own prompts; use a generator."
                )
            self.trace_classes  # noqa: B018  (refuses a class without targets)
            if len(self.origin) < 2:
                raise ValueError(f"trace {self.origin.name}: 1 row is too short to replay, give at least 2.")
        elif self.requests is None and self.duration_s is None and self.sessions is None:
            raise ValueError(f"workload {self.source!r} has no end: give requests or duration_s.")

    @cached_property
    def parsed_predictor(self) -> Predictor:
        """The rule of the text."""
        return parse_predictor(self.predictor)

    @cached_property
    def parsed_think(self) -> ThinkLaw:
        """The law of the text."""
        return parse_think(self.think)

    @cached_property
    def has_sessions(self) -> bool:
        """Whether requests come as sessions, whose arrivals depend on answers."""
        if not isinstance(self.origin, Trace):
            return isinstance(self.origin.lengths, SessionLaw)
        links, asked = self.origin.links, (self.concurrency, self.sessions) != (None, None)
        return links is not None and (links.followed or asked or not self.parsed_think.recorded)

    @property
    def linked(self) -> bool:
        """Whether arrivals depend on answers: sessions, or a closed loop."""
        return self.has_sessions or self.concurrency is not None

    @cached_property
    def prefixes(self) -> SharedPrefixes | None:
        """The texts that prompts begin with, or None."""
        return parse_shared_prefix(self.shared_prefix)

    @cached_property
    def origin(self) -> Generator | Trace:
        """The generator, or the trace, that requests come from."""
        return origin_of(self.source)

    @property
    def name(self) -> str:
        """Name of the generator, or of the trace."""
        return self.origin.name

    @property
    def trace(self) -> Trace | None:
        """The trace that is replayed, or None for a generator."""
        return self.origin if isinstance(self.origin, Trace) else None

    @cached_property
    def trace_classes(self) -> NDArray[np.int8] | None:
        """The SLO class of every row of the trace, a place in ``slo_names``; None where the trace says nothing."""
        if self.trace is None or self.trace.classes is None:
            return None
        if not self.slo_names:
            raise ValueError(
                f"trace {self.trace.name} has a column slo_class ({', '.join(self.trace.classes.names)}), which is for "
                f"runs with several classes: give their names, or drop the column."
            )
        return self.trace.classes.among(self.slo_names)

    @property
    def mean_rate(self) -> float:
        """Long-run arrival rate in requests/s; ``ValueError`` in a closed loop, which has none of its own."""
        if self.concurrency is not None:
            raise ValueError(
                f"concurrency={self.concurrency}: a closed loop has no rate of its own, its clients wait for answers; "
                f"give a rate in place of it."
            )
        if self.has_sessions and isinstance(self.origin, Trace):
            own_s = session_rate(self)
            return self.rate if self.rate is not None else own_s * self.rate_scale
        own = 1.0 / replayed_gap_s(self.origin) if isinstance(self.origin, Trace) else self.origin.rate
        return self.rate if self.rate is not None else own * self.rate_scale

    @property
    def output_cap(self) -> int:
        """Longest output in tokens that the workload can have (what ``none`` predicts)."""
        if isinstance(self.origin, Trace):
            return int(self.origin.output_tokens.max())
        return self.origin.lengths.output_max

    @property
    def warmup(self) -> int:
        """How many requests at the start of every draw are simulated but not scored (0 for a generator).

        They come from the first tenth of a trace, which bin edges may look at, and are at most a tenth
        of the requests, or of the duration, asked for.  Of sessions all are scored.
        """
        if not isinstance(self.origin, Trace) or self.has_sessions:
            return 0
        limits = [calibration_rows(self.origin)]
        limits += [n // CALIBRATION_SHARE for n in (self.most_requests,) if n is not None]
        if self.duration_s is not None:
            times = self.origin.arrival_s * self._clock
            limits.append(int(np.searchsorted(times, self.duration_s / CALIBRATION_SHARE, side="right")))
        return min(limits)

    @property
    def _clock(self) -> float:
        """Seconds of the run per second of the trace."""
        assert isinstance(self.origin, Trace)
        if self.concurrency is not None:
            return 1.0
        return 1.0 / (replayed_gap_s(self.origin) * self.mean_rate)

    @property
    def most_requests(self) -> int | None:
        """Most requests of a draw; None where only the duration ends it."""
        if self.requests is None and self.duration_s is None and isinstance(self.origin, Trace):
            return len(self.origin)
        return None if self.requests is None else int(self.requests)

    def draw(self, seed: int, split: str = "test") -> Requests:
        """The requests of one run; equal for equal (workload, seed, split), in every process.

        ``split`` is ``"test"``, ``"validation"`` or ``"calibration"``: independent worlds of one seed.
        Raises ``ValueError`` for a negative seed, an unknown split, or a duration that no request fits in.
        """
        if self.linked:
            return self._draw_linked(seed, split)
        self._check_work()
        parts = list(self.chunks(seed, self.most_requests or 1_000_000, split))
        if sum(map(len, parts)) <= self.warmup:
            raise NothingComesError(
                f"no request is scored: the {sum(map(len, parts))} that come are the warm-up of the trace; give a "
                f"longer duration, or more requests."
            )
        return parts[0] if len(parts) == 1 else Requests.joined(parts)

    def _draw_linked(self, seed: int, split: str) -> Requests:
        """Sessions, or the list that the clients of a closed loop share."""
        count = float(self.most_requests or MOST_TURNS * (self.sessions or 1))
        check_memory(f"{shown(count)} requests", count * DRAWN_BYTES)
        rngs = streams(seed, split)
        if not self.has_sessions:
            found = Series(self, self._source(rngs), rngs).take(self.most_requests or 1)
            assert found is not None
            return closed_loop(self, found, rngs)
        requests = requests_of_sessions(self, rngs)
        if len(requests) == 0:
            raise NothingComesError(f"duration_s={self.duration_s!r}: no session begins so soon; give a longer one.")
        return requests

    def _check_work(self) -> None:
        """Refuse a draw that no memory holds, or that takes for ever."""
        counts = [] if self.most_requests is None else [float(self.most_requests)]
        counts += [] if self.duration_s is None else [self.mean_rate * self.duration_s]
        count = min(counts)
        check_memory(f"{shown(count)} requests", count * DRAWN_BYTES)
        span_s = min(count / self.mean_rate, self.duration_s or math.inf)
        if span_s > LONGEST_S:
            raise ValueError(
                f"{count:,.0f} requests at {self.mean_rate:g} requests/s take {span_s:.3g} s: at most {LONGEST_S:g} s "
                f"are simulated; give a higher rate, or fewer requests."
            )
        if isinstance(self.origin, Generator) and self.burstiness is None:
            pieces = span_s / self.origin.shortest_piece_s
            if pieces > MOST_PIECES:
                raise ValueError(
                    f"{count:,.0f} requests at {self.mean_rate:g} requests/s come in {span_s:.3g} s, in which the rate "
                    f"of {self.origin.name} changes {pieces:.3g} times: give a higher rate, fewer requests, or "
                    f"burstiness=1."
                )

    def chunks(self, seed: int, chunk: int = 1_000_000, split: str = "test") -> Iterator[Requests]:
        """The same requests as ``draw``, whatever the ``chunk`` (requests per piece), piece by piece."""
        if chunk < 1:
            raise ValueError(f"chunk={chunk!r} is not allowed: give at least 1.")
        if self.linked:
            yield self.draw(seed, split)
            return
        series = self.series(seed, split)
        left = math.inf if self.most_requests is None else self.most_requests
        end = math.inf if self.duration_s is None else self.duration_s
        most = math.inf if self.duration_s is None else self._expected()
        first = True
        while left > 0:
            size = int(min(chunk, left, most))
            found = series.take(size, end)
            if found is None and first:
                raise NothingComesError(f"duration_s={self.duration_s!r}: no request comes so soon; give a longer one.")
            if found is not None:
                yield found
            left = left - size if found is not None and len(found) == size else 0
            first = False

    def series(self, seed: int, split: str = "test") -> Series:
        """The requests of a seed without their end, to be taken in pieces (a trace begins anew)."""
        rngs = streams(seed, split)
        return Series(self, self._source(rngs), rngs)

    def calibration_predictions(self, seed: int) -> NDArray[np.int32]:
        """Predicted lengths that bin edges may be taken from: of no request that is scored.

        For a generator an independent sample (split ``"calibration"``), for a trace its first tenth.
        """
        rngs = streams(seed, "calibration")
        if isinstance(self.origin, Trace):
            rows = slice(calibration_rows(self.origin))
            prompt, output = self.origin.prompt_tokens[rows], self.origin.output_tokens[rows]
        else:
            prompt, output = self.origin.lengths.draw(CALIBRATION_REQUESTS, rngs["lengths"])
        return self.parsed_predictor.predict(prompt, output, self.output_cap, rngs["predictions"])

    def _expected(self) -> int:
        """About how many requests come in ``duration_s``, rounded up."""
        assert self.duration_s is not None
        return int(min(1.05 * self.mean_rate * self.duration_s + 100, 1_000_000))

    def _source(self, rngs: Mapping[str, np.random.Generator]) -> Replay | _Drawn:
        if isinstance(self.origin, Trace):
            return Replay(self.origin, self._clock, self.warmup, rngs["arrivals"], self.trace_classes)
        rate = self.origin.rate if self.concurrency is not None else self.mean_rate
        stream = self.origin.arrivals(rate, self.burstiness, rngs["arrivals"])
        return _Drawn(stream, self.origin.lengths, rngs["lengths"], self.prefixes, rngs["prefixes"])


def origin_of(source: str | Path | Trace) -> Generator | Trace:
    """The generator of a name, or the trace of a file; ``ValueError`` where there is neither."""
    if isinstance(source, Trace):
        return source
    text = str(source)
    if text not in generator_names():
        if os.path.lexists(text):
            return _read_once(text, _changed_ns(text))
        if text == "-":
            raise ValueError("workload '-': standard input is not read: write the trace to a file, and give that.")
        if Path(text).suffix or len(Path(text).parts) > 1:
            raise ValueError(f"workload {text!r}: there is no such file.")
    return load_generator(text)


def _changed_ns(path: str) -> int:
    """When a file, or the youngest of a folder, was last changed."""
    inside: list[int] = []
    with suppress(OSError):  # the reader says what cannot be read
        inside = [entry.stat().st_mtime_ns for entry in os.scandir(path)] if os.path.isdir(path) else []
    return max([os.lstat(path).st_mtime_ns, *inside])


@lru_cache(maxsize=4)
def _read_once(path: str, modified_ns: int) -> Trace:
    """The trace at ``path``, read again only after the file has changed."""
    return read_trace(path)


class _Drawn:
    """Arrivals and lengths of a generator as one endless stream."""

    def __init__(
        self,
        arrivals: Arrivals,
        lengths: LengthLaw,
        rng: np.random.Generator,
        prefixes: SharedPrefixes | None,
        prefix_rng: np.random.Generator,
    ) -> None:
        self._arrivals, self._lengths, self._rng = arrivals, lengths, rng
        self._prefixes, self._prefix_rng = prefixes, prefix_rng

    def take(self, n: int) -> tuple[NDArray[np.float64], IntPair, Contents | None, None]:
        """Times, lengths, hashes if any, and no SLO classes: those are dealt."""
        """Arrivals (n,), (prompts, outputs) and shared prefixes of the next ``n`` requests."""
        contents = None if self._prefixes is None else self._prefixes.draw(n, self._prefix_rng)
        return self._arrivals.take(n), self._lengths.draw(n, self._rng), contents, None


class Series:
    """The requests of one seed, taken in pieces; it can be copied and pickled on the way."""

    def __init__(self, workload: Workload, source: Replay | _Drawn, rngs: Mapping[str, np.random.Generator]) -> None:
        self._workload, self._source = workload, source
        self._predictions, self._classes = rngs["predictions"], rngs["classes"]
        self._shares = np.cumsum(workload.slo_shares)

    def take(self, n: int, end: float = math.inf) -> Requests | None:
        """The next ``n`` requests, or those of them that arrive by ``end`` (s); None if there are none."""
        arrival, (prompt, output), contents, said = self._source.take(n)
        kept = n if end == math.inf else int(np.searchsorted(arrival, end, side="right"))
        if kept == 0:
            return None
        arrival, prompt, output = arrival[:kept], prompt[:kept], output[:kept]
        workload = self._workload
        predicted = workload.parsed_predictor.predict(prompt, output, workload.output_cap, self._predictions)
        classes = _classes(kept, self._shares, self._classes) if said is None else said[:kept]
        if contents is None:
            return Requests(arrival, prompt, output, predicted, classes)
        if kept < n:
            contents = contents.rows(np.arange(kept))
        if workload.prefixes is not None:  # lengths and predictions are those of what follows
            prompt = np.minimum(prompt.astype(np.int64) + workload.prefixes.tokens, MAX_TOKENS)
        known = contents.hashes, contents.hashed_tokens, contents.hash_tokens
        return Requests(arrival, prompt, output, predicted, classes, *known)


def _classes(n: int, cumulative: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int8]:
    if len(cumulative) == 1:
        return np.zeros(n, np.int8)
    drawn = np.searchsorted(cumulative, rng.random(n), side="right")
    return np.minimum(drawn, len(cumulative) - 1).astype(np.int8)
