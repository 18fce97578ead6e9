"""A file of any known format as logs, by its content; and the settings of the server, which most files do not say."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from llmsched.eval.analysis.client_log import ClientLog
from llmsched.eval.analysis.csv_logs import read_csv_log
from llmsched.eval.analysis.json_logs import read_json_logs
from llmsched.eval.reality.engine_meta import EngineMeta, read_meta
from llmsched.eval.reality.log_replay import EngineSettings
from llmsched_env.files.reading import CannotReadError
from llmsched_env.workload.trace_text import read_text
from llmsched_env.workload.traces import read_trace

SETTINGS = {
    "max_seqs": "--max-seqs N (vLLM's --max-num-seqs)",
    "token_budget": "--token-budget N (vLLM's --max-num-batched-tokens)",
    "kv_tokens": "--kv-tokens N|inf (vLLM prints it at the start: GPU KV cache size)",
    "tp": "--tp N (GPUs of one server)",
}
"""What has to be known of the server, and how to say it."""


def read_logs(path: Path, unit: str | None) -> list[ClientLog]:
    """The runs in ``path``; ``ValueError`` names the file and what is wrong or missing."""
    try:
        raw = read_text(path)
        start = raw.lstrip()[:1]
        found = read_json_logs(raw) if start in (b"{", b"[") else None
        if found is None and start not in (b"{", b"["):
            found = [read_csv_log(raw, path.stem, unit)]
    except (CannotReadError, ValueError) as error:
        raise ValueError(f"{str(path)!r}: {error}") from None
    return found if found is not None else [_arrivals_only(path)]


def _arrivals_only(path: Path) -> ClientLog:
    """A trace that --workload reads: when requests came and how long they are, no times of tokens."""
    trace = read_trace(path)
    none = np.full(len(trace), math.nan)
    lengths = trace.prompt_tokens.astype(np.float64), trace.output_tokens.astype(np.float64)
    return ClientLog("trace", path.stem, trace.arrival_s, *lengths, none, none.copy(), notes=trace.notes)


def choose_run(path: Path, logs: list[ClientLog], number: int | None) -> ClientLog:
    """The run that ``--run`` names, or the only one; ``ValueError`` lists them where there are several."""
    logs = [log for log in logs if log.complete.any()]
    if not logs:
        raise ValueError(f"{str(path)!r} holds no request that was served.")
    if number is not None:
        if number > len(logs):
            raise ValueError(f"--run {number}: {str(path)!r} holds {len(logs)} runs.")
        return logs[number - 1]
    if len(logs) > 1:
        shown = "; ".join(f"{place}: {_about(log)}" for place, log in enumerate(logs[:12], start=1))
        raise ValueError(f"{str(path)!r} holds {len(logs)} runs, choose one with --run N.  {shown}.")
    return logs[0]


def _about(log: ClientLog) -> str:
    kept = log.complete
    span = float(np.ptp(log.arrival_s[kept]))
    rate = f"{(kept.sum() - 1) / span:.3g} requests/s" if span > 0 else "all at once"
    return f"{int(kept.sum()):,} requests, {rate}"


def server_settings(options: argparse.Namespace) -> tuple[EngineSettings, int]:
    """(The settings of the logged servers, GPUs of one): from the options and ``--engine``.

    ``ValueError`` asks for those that neither states: with a wrong one the fit is wrong, and nothing would say so.
    """
    meta = read_meta(options.engine_file) if options.engine_file else None
    known = _of_meta(meta) | {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    missing = [words for name, words in SETTINGS.items() if name not in known]
    if missing:
        raise ValueError(
            f"what the log does not say about the server: give {', '.join(missing)}; or --engine META.json."
        )
    servers = options.logged_servers or (meta.replicas if meta else 1)
    scheduling = options.scheduling or ("async" if meta and meta.asynchronous else "sync")
    engine = EngineSettings(
        int(known["max_seqs"]), float(known["token_budget"]), known["kv_tokens"], servers, scheduling=scheduling
    )
    return engine, int(known["tp"])


def _of_meta(meta: EngineMeta | None) -> dict[str, float]:
    if meta is None:
        return {}
    stated = {"max_seqs": meta.max_seqs, "token_budget": meta.token_budget, "tp": meta.tensor_parallel}
    return stated | ({"kv_tokens": meta.kv_tokens} if meta.kv_tokens is not None else {})
