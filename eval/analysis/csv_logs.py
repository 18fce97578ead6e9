"""Logs in CSV: Vidur, Splitwise-sim and LLMServingSim, our own, and gateways by the usual names of columns.

A unit comes from the header (``ttft_ms``, ``Latency (s)``), from the format, or from ``--unit``; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmsched.eval.analysis.client_log import ClientLog, Floats
from llmsched_env.files.columns import numbers_of, read_table
from llmsched_env.files.reading import CannotReadError
from llmsched_env.files.showing import shortened
from llmsched_env.workload.trace_columns import SECONDS, Header, header_of

ALIASES: Mapping[str, tuple[str, ...]] = {
    "arrival": (
        *("arrival", "arrivaltime", "arrivedat", "timestamp", "time", "starttime", "start", "requeststart"),
        *("requeststarttime", "requesttime", "sentat", "sendtime", "createdat", "receivedat", "arrivaltimestamp"),
    ),
    "prompt": (
        *("prompttokens", "inputtokens", "prompttokensest", "requesttokens", "contexttokens", "numprompttokens"),
        *("promptlength", "inputlength", "promptlen", "inputlen", "promptsize", "promptsizes", "numinputtokens"),
        *("inputsequencelength", "isl", "requestnumprefilltokens", "numprefilltokens", "usageprompttokens"),
    ),
    "output": (
        *("outputtokens", "completiontokens", "outputtokensloso", "responsetokens", "generatedtokens"),
        *("outputlength", "outputlen", "numoutputtokens", "generationtokens", "tokensizes", "outputsequencelength"),
        *("osl", "requestnumdecodetokens", "numdecodetokens", "usagecompletiontokens", "completionlength"),
    ),
    "ttft": (
        *("ttft", "timetofirsttoken", "firsttokenlatency", "ttfttimes", "prefilletwoetime", "prefilleetime"),
        *("firsttokentime", "timetofirstbyte", "ttfb"),
    ),
    "e2e": (
        *("ee", "eel", "etwoe", "latency", "duration", "totallatency", "responsetime", "responsetimes", "totaltime"),
        *("endtoendlatency", "requestlatency", "eelatency", "requesteetime", "totalduration", "elapsed"),
    ),
    "end": ("endtime", "end", "completiontime", "completedat", "finishtime", "finishedat", "requestend", "endedat"),
}
"""Names of columns without digits, signs and units (e2e_s is "ee"), in the order in which they are taken."""


@dataclass(frozen=True)
class Form:
    """A format with units of its own: columns that mark it, seconds in a unit of its times, a name."""

    name: str
    marks: frozenset[str]
    seconds: float


FORMS = (
    Form("Vidur", frozenset({"requesteetime", "prefilleetime", "requestnumprefilltokens"}), 1.0),
    Form("Splitwise-sim", frozenset({"ttfttimes", "responsetimes", "promptsizes", "tokensizes"}), 1.0),
    Form("LLMServingSim", frozenset({"input", "output", "arrival", "queuingdelay", "latency"}), 1e-9),
)


def read_csv_log(raw: bytes, label: str, unit: str | None) -> ClientLog:
    """The run of a CSV text; ``unit``: of times whose header and format state none; ``ValueError`` asks for it."""
    try:
        frame = read_table(raw, skipinitialspace=True, low_memory=False)
    except CannotReadError as error:
        raise ValueError(f"not readable as CSV ({error}).") from None
    headers = [header_of(str(column)) for column in frame.columns]
    names = {header.name for header in headers}
    form = next((form for form in FORMS if form.marks <= names), None)
    aliases = dict(ALIASES)
    if form is not None and form.name == "LLMServingSim":
        aliases |= {"prompt": ("input",), "output": ("output",)}
    columns = {key: place for key, known in aliases.items() if (place := _find(headers, known)) is not None}
    if form is not None and form.name == "Vidur" and "arrival" not in columns:
        frame, columns["arrival"] = _summed_gaps(frame, headers)
        headers.append(Header("request_inter_arrival_delay", "arrival", ""))
    _require(columns, headers, form)
    read = _Reader(frame, headers, form, unit)
    arrival = read.times(columns["arrival"])
    prompt, output = (read.numbers(columns[key]) for key in ("prompt", "output"))
    notes: list[str] = []
    ttft = read.times(columns["ttft"]) if "ttft" in columns else np.full(len(frame), np.nan)
    if "e2e" in columns:
        e2e = read.times(columns["e2e"])
    else:
        e2e = read.times(columns["end"]) - arrival if "end" in columns else np.full(len(frame), np.nan)
    if form is not None and form.name == "LLMServingSim":
        output, note = _without_prompt(prompt, output, ttft, e2e, read, headers)
        notes += note
    missing = int((~(output >= 1)).sum())
    notes += [f"{missing:,} of {len(frame):,} requests have no output: left out"] * bool(missing)
    kind = form.name if form is not None else "CSV"
    return ClientLog(kind, label, arrival, prompt, output, ttft, e2e, notes=tuple(notes))


def _find(headers: Sequence[Header], known: Sequence[str]) -> int | None:
    names = [header.name for header in headers]
    return next((names.index(name) for name in known if name in names), None)


def _require(columns: Mapping[str, int], headers: Sequence[Header], form: Form | None) -> None:
    missing = [key for key in ("arrival", "prompt", "output") if key not in columns]
    if not missing:
        return
    words = {"arrival": "when a request was sent (arrival_s)", "prompt": "prompt_tokens", "output": "output_tokens"}
    more = ""
    if form is not None and form.name == "Splitwise-sim":
        more = "  Splitwise-sim's detailed file has no arrivals: join its trace by request_ids (arrival_timestamp)."
    found = ", ".join(shortened(header.label) for header in headers[:20])
    raise ValueError(f"no column for {', '.join(words[key] for key in missing)} among {found}.{more}")


def _summed_gaps(frame: pd.DataFrame, headers: Sequence[Header]) -> tuple[pd.DataFrame, int]:
    """Vidur writes the time since the arrival before: arrivals are its sums, in order of the request's number."""
    place = _find(headers, ("requestinterarrivaldelay",))
    if place is None:
        raise ValueError("no column request_inter_arrival_delay: when requests arrived is not known.")
    number = _find(headers, ("requestid",))
    if number is not None:
        order = np.argsort(numbers_of(frame.iloc[:, number]), kind="stable")
        frame = frame.iloc[order].reset_index(drop=True)
    gaps = numbers_of(frame.iloc[:, place])
    return frame.assign(arrival_of_vidur=np.where(np.isnan(gaps), 0.0, gaps).cumsum()), len(frame.columns)


def _without_prompt(
    prompt: Floats, output: Floats, ttft: Floats, e2e: Floats, read: _Reader, headers: Sequence[Header]
) -> tuple[Floats, list[str]]:
    """Outputs without their prompts: some versions of LLMServingSim write both together; TPOT tells which."""
    place = _find(headers, ("tpot",))
    if place is None:
        return output, []
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = (e2e - ttft) / read.times(place)
    known = np.isfinite(gaps) & (gaps > 0)
    if not known.any():
        return output, []
    off = [float(np.median(np.abs(gaps[known] + 1 - guess[known]))) for guess in (output, output - prompt)]
    if off[1] < off[0] and (output > prompt).all():
        return output - prompt, ["the column output counts the prompts too (as its TPOT shows): subtracted"]
    return output, []


@dataclass(frozen=True)
class _Reader:
    """Columns of a frame as numbers."""

    frame: pd.DataFrame
    headers: Sequence[Header]
    form: Form | None
    unit: str | None

    def numbers(self, place: int) -> Floats:
        """(N,), an empty cell as NaN; ``ValueError`` names the first that is no number."""
        column = self.frame.iloc[:, place]
        found = numbers_of(column)
        empty = column.isna() | (column.astype(str).str.strip() == "")
        wrong = (~np.isfinite(found)) & ~empty.to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            label = self.headers[place].label
            raise ValueError(f"row {row + 1}: {label}={shortened(str(column.iloc[row]))} is no number.")
        return found

    def times(self, place: int) -> Floats:
        """(N,) in seconds: dates, or numbers in the unit of the header, the format or the option."""
        header, column = self.headers[place], self.frame.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(column) and not header.unit:
            dates = pd.to_datetime(column.astype(str), format="ISO8601", utc=True, errors="coerce")
            if dates.notna().all():
                return dates.dt.as_unit("ns").astype("int64").to_numpy() / 1e9
        return self.numbers(place) * self._seconds(header)

    def _seconds(self, header: Header) -> float:
        if header.unit:
            return header.seconds(None)[0]
        if self.form is not None:
            return self.form.seconds
        if self.unit is not None:
            return SECONDS[self.unit]
        raise ValueError(
            f"the column {header.label!r} states no unit: name it {header.label}_s or {header.label}_ms, or give "
            f"--unit s or --unit ms for all times without one."
        )
