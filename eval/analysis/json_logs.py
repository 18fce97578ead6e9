"""Logs in JSON: vLLM and SGLang benchmarks, GuideLLM, AIPerf, inference-perf.

Fields, as the tools write them: vLLM vllm/benchmarks/serve.py (--save-detailed), SGLang python/sglang/bench_serving.py
(--output-details), GuideLLM guidellm/schemas (GenerativeRequestStats), AIPerf docs "Working with Profile Export Files",
inference-perf per_request_lifecycle_metrics.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from llmsched.eval.analysis.client_log import ClientLog, log_of
from llmsched_env.files.reading import CannotReadError, json_of
from llmsched_env.files.showing import shortened
from llmsched_env.workload.trace_columns import SECONDS

SAID = ("model_id", "backend", "request_rate", "burstiness", "max_concurrency", "duration", "num_prompts")
"""What a benchmark of vLLM or SGLang states about itself that is kept."""


def read_json_logs(raw: bytes) -> list[ClientLog] | None:
    """The runs of a JSON text; None: it is of none of these formats; ``ValueError`` says what is missing."""
    documents = _documents(raw)
    first = documents[0] if documents else None
    if not isinstance(first, dict):
        return None
    if "input_lens" in first or "output_lens" in first:
        return [_bench(document, place) for place, document in enumerate(documents, start=1)]
    if isinstance(first.get("benchmarks"), list):
        return _guidellm(first)
    if isinstance(first.get("metadata"), dict) and "request_start_ns" in first["metadata"]:
        return [_aiperf(documents)]
    if "start_time" in first and "end_time" in first and "info" in first:
        return [_inference_perf(documents)]
    return None


def _documents(raw: bytes) -> list[Any]:
    """The objects of a JSON document, of an array, or of JSON lines."""
    try:
        found = json_of(raw)
        return found if isinstance(found, list) else [found]
    except CannotReadError:
        lines = [line for line in raw.split(b"\n") if line.strip()]
        return [json_of(line) for line in lines]


def _rows(read: Callable[[Any], dict[str, Any] | None], records: Iterable[Any], word: str) -> list[dict[str, Any]]:
    """What ``read`` makes of every record, None left out; ``ValueError`` names the first that has another form."""
    found = []
    for place, record in enumerate(records, start=1):
        try:
            row = read(record)
        except ValueError as error:
            raise ValueError(f"{word} {place}: {error}") from None
        except (TypeError, AttributeError, LookupError, OverflowError) as error:
            about = f"{type(error).__name__}: {shortened(' '.join(str(error).split()))}"
            raise ValueError(f"{word} {place}: a field is missing, or of another kind ({about}).") from None
        found += [row] if row is not None else []
    return found


def _list(document: Mapping[str, Any], key: str, length: int | None = None) -> list[Any]:
    values = document.get(key)
    if not isinstance(values, list):
        raise ValueError(f"no list {key!r}: save every request (vLLM: --save-detailed, SGLang: --output-details).")
    if length is not None and len(values) != length:
        raise ValueError(f"{key} has {len(values)} entries where input_lens has {length}: the file is not whole.")
    return values


def _bench(document: Any, place: int) -> ClientLog:
    """One run of vLLM's or SGLang's benchmark; the end of a request is its first token plus its inter-token times."""
    if not isinstance(document, dict):
        raise ValueError(f"line {place}: no JSON object.")
    prompts = _list(document, "input_lens")
    count = len(prompts)
    outputs, ttfts, gaps = (_list(document, key, count) for key in ("output_lens", "ttfts", "itls"))
    says = {key: document[key] for key in SAID if document.get(key) is not None}
    notes: list[str] = []
    if isinstance(document.get("start_times"), list):
        starts = _list(document, "start_times", count)
    elif _rate(document.get("request_rate")) == math.inf and document.get("max_concurrency") is None:
        starts, notes = [0.0] * count, ["all requests were sent at once (request rate inf)"]
    else:
        raise ValueError(
            "no start_times, and the requests were not all sent at once: when each was sent is not known.  SGLang's "
            "benchmark does not save it; vLLM's does (vllm bench serve --backend openai --save-detailed works with an "
            "SGLang server too)."
        )
    rows = _rows(_bench_row, zip(starts, prompts, outputs, ttfts, gaps, strict=True), "request")
    kind = "SGLang benchmark" if "sglang" in str(document.get("backend", "")).lower() else "vLLM benchmark"
    return log_of(kind, f"run {place}", rows, says=says, notes=notes)


def _bench_row(record: Any) -> dict[str, Any]:
    start, prompt, output, ttft, gap = record
    whole = isinstance(gap, list) and all(isinstance(value, int | float) for value in gap)
    served = isinstance(output, int | float) and output >= 1 and isinstance(ttft, int | float) and ttft > 0
    end = ttft + math.fsum(gap) if served and whole else None
    return {"arrival": start, "prompt": prompt, "output": output if served else 0, "ttft": ttft, "e2e": end}


def _rate(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _guidellm(document: Mapping[str, Any]) -> list[ClientLog]:
    """A run per benchmark of the report."""
    found = []
    for place, benchmark in enumerate(document["benchmarks"], start=1):
        requests = benchmark.get("requests") if isinstance(benchmark, dict) else None
        if not isinstance(requests, dict) or not isinstance(requests.get("successful"), list):
            raise ValueError(f"benchmark {place}: no list of successful requests.")
        others = [requests.get(key) for key in ("errored", "incomplete")]
        left = sum(len(rows) for rows in others if isinstance(rows, list))
        notes = [f"{left:,} errored or incomplete requests: not in the log, though they loaded the server"] * bool(left)
        rows = _rows(_guidellm_row, requests["successful"], "request")
        found.append(log_of("GuideLLM", f"benchmark {place}", rows, notes=notes))
    return [log for log in found if len(log.arrival_s)]


def _guidellm_row(row: Mapping[str, Any]) -> dict[str, Any]:
    info = row.get("scheduler_info") or row.get("info") or {}
    timings = info.get("request_timings") or info.get("timings") or {}
    start = _first(row, "request_start_time", "start_time")
    start = timings.get("request_start") if start is None else start
    end = _first(row, "request_end_time", "end_time")
    latency, ttft = row.get("request_latency"), row.get("time_to_first_token_ms")
    if latency is None and end is not None and start is not None:
        latency = end - start
    return {
        "arrival": start,
        "prompt": _first(row, "prompt_tokens", "input_tokens"),
        "output": _first(row, "output_tokens", "completion_tokens"),
        "ttft": None if ttft is None else ttft / 1e3,
        "e2e": latency,
    }


def _first(row: Mapping[str, Any], *keys: str) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _aiperf(documents: Sequence[Any]) -> ClientLog:
    """Records of the phase ``profiling``; every metric brings its unit."""
    rows = _rows(_aiperf_row, documents, "line")
    warmup = len(documents) - len(rows)
    return log_of("AIPerf", "run 1", rows, notes=[f"{warmup:,} requests of the warm-up left out"] * bool(warmup))


def _aiperf_row(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """None of the warm-up."""
    about = record.get("metadata") or {}
    if about.get("benchmark_phase", "profiling") != "profiling":
        return None
    failed = bool(record.get("error") or about.get("was_cancelled"))
    metrics = record.get("metrics") or {}
    return {
        "arrival": about["request_start_ns"] / 1e9,
        "prompt": _value(metrics, "input_sequence_length"),
        "output": 0 if failed else _value(metrics, "output_sequence_length") or _value(metrics, "output_token_count"),
        "ttft": _value(metrics, "time_to_first_token", time=True),
        "e2e": _value(metrics, "request_latency", time=True),
    }


def _value(metrics: Mapping[str, Any], name: str, *, time: bool = False) -> float | None:
    found = metrics.get(name)
    if found is None:
        return None
    unit = found.get("unit") if isinstance(found, dict) else None
    value = found.get("value") if isinstance(found, dict) else found
    if not time:
        return value
    if unit not in SECONDS:
        raise ValueError(f"{name} has no unit that is known ({shortened(str(unit))}).")
    return None if value is None else value * SECONDS[unit]


def _inference_perf(documents: Sequence[Any]) -> ClientLog:
    """Seconds of one clock; the lengths lie in ``info`` itself, or in two parts of it in newer versions."""
    return log_of("inference-perf", "run 1", _rows(_inference_perf_row, documents, "request"))


def _inference_perf_row(row: Mapping[str, Any]) -> dict[str, Any]:
    info = row.get("info") or {}
    asked, got = info.get("request_metrics") or {}, info.get("response_metrics") or info
    times = got.get("output_token_times") or []
    return {
        "arrival": row["start_time"],
        "prompt": info.get("input_tokens", (asked.get("text") or {}).get("input_tokens")),
        "output": 0 if row.get("error") else got.get("output_tokens"),
        "ttft": times[0] - row["start_time"] if times else None,
        "e2e": (times[-1] if times else row["end_time"]) - row["start_time"],
    }
