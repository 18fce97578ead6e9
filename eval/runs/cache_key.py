"""What determines the outcome of a run, and a key of it: equal keys, equal results.

The key covers the configuration that is simulated, the law of the arrivals (a trace by its rows), the policy's code
and numbers, the seed and its split, what is kept of the run, and the version of the source.  It covers neither the
label of the run nor how many run at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import secrets
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.runs.runner import Cell
from llmsched.policies import Policy, ReadyPolicy
from llmsched.policies.registry import OURS
from llmsched.policies.routing.registry import BoundRouting
from llmsched.policies.userfile import code_digest
from llmsched_env import datafiles
from llmsched_env.workload.traces import Trace

ROOT = Path(__file__).resolve().parents[2]

SOURCES = ("llmsched_env/**/*.py", "policies/**/*.py", "eval/runs/runner.py", "eval/runs/outcome.py")
"""What a result depends on, besides the data files; tables, figures and pages may change without it."""

LIBRARIES = ("numba", "numpy", "scipy")

PROCESS = secrets.token_hex(16)
"""Part of the key of a policy that may decide otherwise next time: a Python function reads what it likes."""


def cell_key(cell: Cell) -> str:
    """The key of ``cell``: 32 hexadecimal digits.

    A policy from a user's file counts with all of that file, and with the files beside it that it imports.
    """
    workload, ready = cell.scenario.workload, cell.policy.ready(cell.scenario.config)
    source = workload.name if workload.trace is None else trace_digest(workload.trace)
    facts = {
        "version": source_version(),
        "config": _plain(ready.config),
        "workload": _plain(workload) | {"source": source},
        "policy": _policy(cell.policy.policy, ready),
        **({} if ready.routing is None else {"routing": _routing(ready.routing)}),
        "cut": list(cell.scenario.cut),
        "seed": cell.seed,
        "split": cell.split,
        "timeline": cell.timeline,
        "streamed": cell.streamed,
    }
    return _digest(json.dumps(facts, sort_keys=True).encode())


@cache
def source_version() -> str:
    """Digest of the simulator's source, of its data files and of the libraries that compile and draw."""
    digest = hashlib.sha256()
    files = [file for pattern in SOURCES for file in sorted(ROOT.glob(pattern))]
    for kind in ("generators", "profiles"):
        files += sorted(datafiles.data_dir(kind).glob("*.json"))
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    versions = [platform.python_version(), *(metadata.version(name) for name in LIBRARIES)]
    digest.update(" ".join(versions).encode())
    return digest.hexdigest()[:32]


_TRACES: dict[int, tuple[Trace, str]] = {}


def trace_digest(trace: Trace) -> str:
    """Digest of the rows of a trace; its name and notes change no result."""
    if id(trace) not in _TRACES:  # the trace is kept with it, so that no other takes its id
        columns = [trace.arrival_s, trace.prompt_tokens, trace.output_tokens]
        if trace.contents is not None:
            columns += [trace.contents.hashes, trace.contents.hashed_tokens]
        if trace.classes is not None:
            columns.append(trace.classes.number)
        if trace.links is not None:
            columns += [trace.links.parent, trace.links.think_s, np.array([trace.links.followed, trace.links.clocked])]
        _TRACES[id(trace)] = trace, _digest(*(np.ascontiguousarray(column).tobytes() for column in columns))
    return _TRACES[id(trace)][1]


def _policy(policy: Policy, ready: ReadyPolicy) -> dict[str, Any]:
    file = policy.file
    ours = file.is_relative_to(OURS)
    code = "ours" if ours else code_digest(file)  # ours: source_version
    own = {} if ours else {"name": policy.name}  # one place of the code may make several functions
    return {
        **own,
        "function": policy.function.__qualname__,
        "file": file.name,
        "code": code,
        "params": _digest(np.ascontiguousarray(ready.params, dtype=np.float64).tobytes()),
        "memory": ready.memory_size,
        "details": ready.details,
        **({} if policy.repeatable else {"process": PROCESS}),
    }


def _routing(bound: BoundRouting) -> dict[str, Any]:
    file = bound.policy.file
    return {
        "name": bound.policy.name,
        "code": "ours" if file.is_relative_to(OURS) else code_digest(file),
        "params": bound.params.tolist(),
        "memory": bound.policy.memory,
    }


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as dictionaries of what can be compared, numbers as JSON writes them (exactly)."""
    if isinstance(value, Trace):
        return None  # by trace_digest
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare}
        return {"is": type(value).__name__} | fields
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]
