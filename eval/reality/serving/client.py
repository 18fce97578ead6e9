"""An open-loop client of an OpenAI-compatible server: each request is sent at its time, whatever the others do.

Times are of a monotonic clock.  A token is seen when its event of the stream arrives; an event may hold several.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.reading import CannotReadError, json_of
from llmsched_env.requests import MAX_TOKENS, Requests

LONGEST_EVENT = 2**20
"""Most bytes of a line of a stream."""

MOST_ANSWER = 2**22
"""Most bytes of a list of models."""

FIRST_ID, LAST_ID = 10, 250
"""Ids of the tokens of prompts: small ones, which every vocabulary has."""


@dataclass(frozen=True)
class Target:
    """A server: its address up to ``/v1``, the model, and how prompts are written (``ids`` or ``text``).

    ``more``: fields that every request gets besides.
    """

    url: str
    model: str
    prompts: str = "ids"
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Served:
    """What the client saw of a request, seconds since the run began; NaN: it did not happen.

    ``due``: when it was to be sent, ``sent``: when it was; ``tokens``: of the answer, as the server counts them, else
    events; ``gaps``: between events with tokens; ``error``: empty, or why the request failed.
    """

    due: float
    sent: float = float("nan")
    first: float = float("nan")
    last: float = float("nan")
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    error: str = ""


def prompt_ids(n: int, seed: int, i: int) -> NDArray[np.int64]:
    """The prompt of request ``i``: ``n`` tokens."""
    return np.random.default_rng((seed, i)).integers(FIRST_ID, LAST_ID, n)


def body_of(target: Target, requests: Requests, i: int, seed: int) -> dict[str, Any]:
    """The JSON of request ``i``: a prompt of as many tokens as it has, and as many to be produced."""
    ids = prompt_ids(int(requests.prompt_tokens[i]), seed, i)
    prompt = ids.tolist() if target.prompts == "ids" else " ".join("abcdefghij"[k % 10] for k in ids)
    more = dict(target.more)
    if more.pop("predictions", False):
        more["vllm_xargs"] = {
            "predicted": int(requests.predicted_tokens[i]),
            "slo_class": int(requests.slo_class[i]),
        }
    return {
        "model": target.model,
        "prompt": prompt,
        "max_tokens": int(requests.output_tokens[i]),
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }


def read_event(line: bytes) -> dict[str, Any] | None:
    """The object of a line of the stream; None for lines without one.  ``ValueError`` where it is none."""
    if not line.startswith(b"data:"):
        return None
    text = line[5:].strip()
    if not text or text == b"[DONE]":
        return None
    found = json_of(text)
    if not isinstance(found, dict):
        raise ValueError("an event of the stream is no object")
    return found


def note_event(served: Served, event: Mapping[str, Any], now: float) -> None:
    """Add an event of the stream, seen at ``now``."""
    if event.get("error"):
        served.error = served.error or "the server reports an error in the stream"
    usage = event.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(tokens) is int and 0 <= tokens <= MAX_TOKENS:
        served.tokens = tokens
    if not event.get("choices"):
        return
    if np.isnan(served.first):
        served.first = now
    else:
        served.gaps.append(now - served.last)
    served.last = now


async def _one(session: Any, target: Target, body: Mapping[str, Any], served: Served, began: float) -> None:
    """Send a request when it is due and read its stream; a fault becomes its ``error``."""
    await asyncio.sleep(max(0.0, began + served.due - time.monotonic()))
    served.sent = time.monotonic() - began
    done = False
    try:
        async with session.post(f"{target.url}/completions", json=body) as answer:
            if answer.status != 200:
                served.error = f"HTTP {answer.status}"
                return
            if "text/event-stream" not in answer.headers.get("Content-Type", ""):
                served.error = "no stream"
                return
            async for line in answer.content:
                event = read_event(line)
                if event is not None:
                    note_event(served, event, time.monotonic() - began)
                done = done or line.strip() == b"data: [DONE]"
    except TimeoutError:
        served.error = "timeout"
    except Exception as error:  # whatever a server or a network does is a miss, and the others go on
        served.error = type(error).__name__
    if not served.error and (not done or np.isnan(served.first)):
        served.error = "cut off" if not done else "no token"
    served.tokens = served.tokens or len(served.gaps) + (not np.isnan(served.first))


async def send_all(
    target: Target,
    requests: Requests,
    *,
    seed: int,
    timeout_s: float,
    progress: Any = None,
    note_start: Callable[[float], None] = lambda _: None,
) -> list[Served]:
    """Send every request at its time and wait for all; a row for each, in their order.

    ``note_start`` hears when the run began, seconds of the system's clock.
    """
    import aiohttp

    rows = [Served(float(due)) for due in requests.arrival_s]
    bodies = [body_of(target, requests, i, seed) for i in range(len(rows))]
    limits = aiohttp.ClientTimeout(total=timeout_s)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=limits, connector=connector, read_bufsize=LONGEST_EVENT) as session:
        began = time.monotonic()
        note_start(time.time())

        async def one(place: int) -> None:
            await _one(session, target, bodies[place], rows[place], began)
            if progress is not None:
                progress.step(f"request {place}", 1.0)

        await asyncio.gather(*(one(place) for place in range(len(rows))))
    return rows


async def ask_model(url: str, timeout_s: float = 10.0) -> str:
    """The first model that a server names; ``ValueError`` in one line where there is no such server."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
            session.get(f"{url}/models") as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"{url}/models: HTTP {answer.status}: give the address of the API, up to /v1.")
            content = b""
            async for piece in answer.content.iter_chunked(2**16):
                content += piece
                if len(content) > MOST_ANSWER:
                    raise CannotReadError(f"it has more than {MOST_ANSWER:,} bytes")
        return str(json_of(content)["data"][0]["id"])
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ValueError(f"{url}: no server answers ({type(error).__name__}): start it, or mend --endpoint.") from None
    except (KeyError, IndexError, TypeError, CannotReadError):
        raise ValueError(f"{url}/models: the answer names no model: give --model, or another --endpoint.") from None


def as_row(served: Sequence[Served]) -> list[list[Any]]:
    """Rows for a file: due, sent, first, last (s, null: never), tokens, gaps in ms, error."""

    def shown(value: float) -> float | None:
        return None if np.isnan(value) else round(value, 6)

    return [
        [*map(shown, (s.due, s.sent, s.first, s.last)), s.tokens, [round(1e3 * gap, 3) for gap in s.gaps], s.error]
        for s in served
    ]


def from_row(rows: Sequence[Sequence[Any]]) -> list[Served]:
    """What `as_row` wrote."""

    def read(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    return [
        Served(
            *(read(row[0]), read(row[1]), read(row[2]), read(row[3]), int(row[4])),
            gaps=[gap / 1e3 for gap in row[5]],
            error=str(row[6]),
        )
        for row in rows
    ]
