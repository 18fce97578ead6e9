"""Writes llmsched_env/core/rows.pyi: the rows of core/layout.py as classes, for editors and type checkers.

Kernels take a State (core/state.py), whose fields are NumPy records: no tool can see what is in them.  The stub names
every field, with its type and the comment that stands beside it in layout.py.

    python docs/tools/make_state_stub.py
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

from llmsched_env.core import layout, state

LIBRARY = Path(__file__).resolve().parents[2] / "llmsched_env"
STUB = LIBRARY / "core" / "rows.pyi"

HEAD = '''# Made by docs/tools/make_state_stub.py from layout.py, memory/rows.py, view/row.py, state.py; tested.
"""The rows of the state as classes: what kernels read and write by name.  There is no such module at run time."""

from typing import Any, Generic, NamedTuple, TypeVar

Row = TypeVar("Row")

class Fields:
    """A row: fields by name, or by index where the name is one of NumPy's."""

    def __getitem__(self, field: str) -> Any: ...
    def __setitem__(self, field: str, value: Any) -> None: ...

class Rows(Generic[Row]):
    """An array: what stands at place i."""

    def __getitem__(self, place: int) -> Row: ...
    def __setitem__(self, place: int, value: Row) -> None: ...
    def __len__(self) -> int: ...
'''


def class_name(row: str) -> str:
    """``RUNNING_SET`` as ``RunningSet``."""
    return "".join(part.capitalize() for part in row.split("_"))


def comments() -> dict[tuple[str, str], str]:
    """(row, field) -> the comment beside the field in layout.py."""
    sources = [
        (LIBRARY / "core" / name).read_text(encoding="utf-8") for name in ("layout.py", "memory/rows.py", "view/row.py")
    ]
    return {row: comment for source in sources for row, comment in comments_in(source).items()}


def comments_in(source: str) -> dict[tuple[str, str], str]:
    """The same of one file."""
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        for field in ast.walk(node.value):
            if isinstance(field, ast.Tuple) and field.elts and isinstance(field.elts[0], ast.Constant):
                line = lines[field.lineno - 1]
                if "),  # " in line:
                    found[node.targets[0].id, str(field.elts[0].value)] = line.split("),  # ", 1)[1]
    return found


def type_of(kind: np.dtype, names: dict[np.dtype, str]) -> str:
    """The type of a field."""
    if kind.subdtype is not None:
        return f"Rows[{type_of(kind.subdtype[0], names)}]"
    return names.get(kind, "float" if kind.kind == "f" else "int")


def type_of_array(spec: state.ArraySpec, names: dict[np.dtype, str]) -> str:
    """The type of an array as one lane has it; a heap is read by two indices."""
    element = type_of(np.dtype(spec.kind), names)
    axes = [axis for axis in spec.shape if axis not in ("one", "lanes")]
    if len(axes) > 1 and element == "int":
        return "Any"
    for _ in axes:
        element = f"Rows[{element}]"
    return element


def text() -> str:
    """The whole stub."""
    rows = {name: kind for name, kind in vars(layout).items() if isinstance(kind, np.dtype) and kind.names}
    names, said, parts = {kind: class_name(name) for name, kind in rows.items()}, comments(), [HEAD]
    for name, kind in rows.items():
        parts.append(f"\nclass {class_name(name)}(Fields):\n")
        for field in kind.names or ():
            comment = said.get((name, field))
            line = f"    {field}: {type_of(kind[field], names)}"
            parts.append(f"{line}  # {comment}\n" if comment else f"{line}\n")
    parts.append('\nclass State(NamedTuple):\n    """One lane as the kernels see it (state.State)."""\n\n')
    for spec in state.TABLE:
        parts.append(f"    {spec.name}: {type_of_array(spec, names)}  # {spec.meaning}\n")
    parts.append(f"    counts: {names[layout.COUNTS]}  # lane.counts\n")
    return "".join(parts)


if __name__ == "__main__":
    STUB.write_text(text(), encoding="utf-8")
