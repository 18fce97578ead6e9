"""All options of a simulation by name, each declared once (see declaration.Option).

To add one: its declaration in a file of this folder, a field in the class that holds it (its default is
``default("NAME")``) and in envs.options.EnvOptions, and what it does.  Checks, ``--help``, the environments' manual,
summary.json, headings and the cache key follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmsched_env.options.agent import AGENT
from llmsched_env.options.arrivals import ARRIVALS, TARGETS
from llmsched_env.options.declaration import Option, by_name
from llmsched_env.options.queues import QUEUES
from llmsched_env.options.servers import BATCHES, CONTINUOUS, SERVERS

OPTIONS: Mapping[str, Option] = by_name(*ARRIVALS, *TARGETS, *SERVERS, *BATCHES, *QUEUES, *CONTINUOUS, *AGENT)
"""By name; the parts of ``controller`` and ``slo`` as ``controller.alpha``."""


def default(name: str) -> Any:
    """The default of an option, for the class that holds it."""
    return OPTIONS[name].default


def held_by(holder: str) -> tuple[Option, ...]:
    """The options whose values are fields of ``holder``: ``"queueing"``, ``"continuous"``; ``""``: of SimConfig."""
    return tuple(one for one in OPTIONS.values() if one.sets and one.sets.rpartition(".")[0] == holder)


def check_no_other_engine(holder: str, held: Any, engine: str) -> None:
    """``ValueError`` where ``held`` sets an option of ``holder`` that only an engine other than ``engine`` has."""
    for one in held_by(holder):
        value = getattr(held, one.field)
        if one.engine not in ("", engine) and value != one.default:
            raise ValueError(f"{one.name}={value!r} belongs to the engine {one.engine!r}: drop it.")


def check_fields(holder: str, held: Any) -> None:
    """Raise ``ValueError`` in one line unless every number and word that ``held`` holds is allowed."""
    for option in held_by(holder):
        if not option.compound:
            option.check(getattr(held, option.field), option.full_name)


def settings(holder: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``values`` (by option name) that are fields of ``holder``, by field; None is left out."""
    found = {one.field: values.get(one.name) for one in held_by(holder) if not one.compound}
    return {name: value for name, value in found.items() if value is not None}
