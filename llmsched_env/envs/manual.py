"""The manual of the environment is its docstring; the tables in it are filled in from the code that they describe."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from llmsched_env import engines
from llmsched_env.core.view import observation, route_view
from llmsched_env.envs.options import EnvOptions
from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import UNITS
from llmsched_env.options.table import OPTIONS


def filled(text: str | None) -> str:
    """``text`` without its indentation and with {GLOBAL}, {PER_BIN} and {ARGUMENTS} replaced by tables."""
    page = inspect.cleandoc(text or "")
    tables = {
        "GLOBAL": global_table,
        "RUNNING": running_table,
        "CACHED": cache_table,
        "PER_BIN": bin_table,
        "ARGUMENTS": argument_table,
        "ROUTED_REQUEST": lambda: _view_table(route_view.REQUEST, "{}"),
        "ROUTED_SERVER": lambda: _view_table(route_view.PER_SERVER, "+ {}"),
    }
    for name, table in tables.items():
        if f"{{{name}}}" in page:
            page = page.replace(f"{{{name}}}", table())
    return page


def global_table() -> str:
    """What the observation holds once."""
    rows = ((i, f"`{name}`", *rest) for i, (name, *rest) in enumerate(observation.GLOBAL))
    return _table(("index", "name", "meaning", "unit", "scale"), rows)


def bin_table() -> str:
    """What it holds per bin; the index counts from the first entry of the bin."""
    rows = ((f"+ {i}", f"`{name}`", *rest) for i, (name, *rest) in enumerate(observation.PER_BIN))
    return _table(("index", "name", "meaning", "unit", "scale"), rows)


def running_table() -> str:
    """What it holds in the engine `continuous` beyond that; the index counts from behind the entries of `any`."""
    rows = ((f"+ {i}", f"`{name}`", *rest) for i, (name, *rest) in enumerate(engines.get("continuous").entries))
    return _table(("index", "name", "meaning", "unit", "scale"), rows)


def cache_table() -> str:
    """What follows with a prefix cache; the index counts from behind the entries of the engine."""
    rows = ((f"+ {i}", f"`{name}`", *rest) for i, (name, *rest) in enumerate(engines.get("continuous").cache_entries))
    return _table(("index", "name", "meaning", "unit", "scale"), rows)


def _view_table(entries: Sequence[tuple[str, ...]], place: str) -> str:
    """Entries of the observation of a router; ``place`` writes an index."""
    rows = ((place.format(i), f"`{name}`", *rest) for i, (name, *rest) in enumerate(entries))
    return _table(("index", "name", "meaning", "unit", "scale"), rows)


def argument_table() -> str:
    """Every option that the environments have, with its default and its help (llmsched_env.options)."""
    rows = [argument_row(OPTIONS[field.name]) for field in fields(EnvOptions)]
    rows.append(("`max_episode_steps`", "`None`", "Truncate after this number of decisions (a wrapper of `gym.make`)."))
    rows.append(("`simulation`", "`None`", "A config.SimConfig: what is simulated, in place of the options about it."))
    rows.append(("`render_mode`", "`None`", "`rgb_array`, `human` (text in the terminal) or `ansi`."))
    return _table(("argument", "default", "meaning"), rows)


def argument_row(option: Option) -> tuple[str, str, str]:
    """Name, default and meaning of an option: its help, the only engine that has it, its unit, what is special."""
    unit = option.argument_unit or option.unit
    parts = [f"Engine `{option.engine}`:" if option.engine else "", option.help]
    parts += [
        f"In {UNITS.get(unit, unit)}." if unit else "",
        option.argument_note,
        f"None: {option.none}." if option.none else "",
    ]
    if option.parts:
        parts.append(f"Keys: {', '.join(f'`{part.name}`' for part in option.parts)}.")
    return f"`{option.name}`", f"`{repr(option.default).replace('inf', 'math.inf')}`", " ".join(filter(None, parts))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|x|", "abs(x)") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
