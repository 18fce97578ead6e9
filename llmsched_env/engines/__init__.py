"""The engines: how servers work on requests.  They share the core and know nothing of each other."""

from __future__ import annotations

from llmsched_env.engines.batch.engine import ENGINE as BATCH
from llmsched_env.engines.continuous.engine import ENGINE as CONTINUOUS
from llmsched_env.engines.engine import Engine

_ENGINES = {engine.name: engine for engine in (BATCH, CONTINUOUS)}

NAMES = tuple(_ENGINES)


def get(name: str) -> Engine:
    """The engine ``name``; ``ValueError`` for a name that none has."""
    if name not in _ENGINES:
        raise ValueError(f"engine={name!r} is not known: choose one of {', '.join(NAMES)}.")
    return _ENGINES[name]
