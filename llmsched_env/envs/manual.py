"""The manual of the environment is its docstring; the tables in it are filled in from the code that they describe."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from llmsched_env import engines
from llmsched_env.core.view import observation
from llmsched_env.envs import options

_COMMENT = re.compile(r"^    (\w+): .*?  # (.*)$", re.MULTILINE)


def filled(text: str | None) -> str:
    """``text`` without its indentation and with {GLOBAL}, {PER_BIN} and {ARGUMENTS} replaced by tables."""
    page = inspect.cleandoc(text or "")
    tables = {"GLOBAL": global_table, "RUNNING": running_table, "PER_BIN": bin_table, "ARGUMENTS": argument_table}
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


def argument_table() -> str:
    """Every option with its default and the comment that stands behind it in options.EnvOptions."""
    comments = argument_comments()
    rows = [(f"`{field.name}`", f"`{_default(field)}`", comments[field.name]) for field in fields(options.EnvOptions)]
    rows.append(("`max_episode_steps`", "`None`", "truncate after so many decisions (`gym.make` takes it for itself)"))
    rows.append(("`simulation`", "`None`", "a config.SimConfig: what is simulated, in place of the options about it"))
    rows.append(("`render_mode`", "`None`", "`rgb_array`, `human` (text in the terminal) or `ansi`"))
    return _table(("argument", "default", "meaning"), rows)


def argument_comments() -> dict[str, str]:
    """The comment behind every field of options.EnvOptions, by name."""
    source = Path(options.__file__).read_text(encoding="utf-8")
    body = source[source.index("class EnvOptions") :]
    return dict(_COMMENT.findall(body[: body.index("    def ")]))


def _default(field: Any) -> Any:
    value = field.default if field.default is not MISSING else field.default_factory()
    return repr(value).replace("inf", "math.inf")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|x|", "abs(x)") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
