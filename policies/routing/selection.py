"""From typed text to routing policies: ``power-of-two``, ``prefix-load:prefix=5``, ``my.py:mine``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from llmsched.policies.parameters import Value, declared, read_value
from llmsched.policies.registry import first_line
from llmsched.policies.routing.registry import BoundRouting, RoutingPolicy, get
from llmsched.policies.selection import FILE
from llmsched.policies.userfile import load_function
from llmsched_env.files.showing import visible
from llmsched_env.options.suggest import did_you_mean


def parse_routing(text: str) -> BoundRouting:
    """The routing policy that ``text`` names, its parameters set and its function compiled.

    The text is ``NAME`` or ``FILE.py:FUNCTION``, then ``:PARAMETER=VALUE`` for each parameter.  ``ValueError``, in one
    line, for anything else.
    """
    given = text.strip()
    from_file = FILE.fullmatch(given)
    if from_file:
        name, *parts = (from_file["rest"] or "").split(":")
        found = _of_file(from_file["file"], name.strip())
    else:
        name, *parts = given.split(":")
        found = get(name.strip())
    values: dict[str, Value] = {key: parameter.default for key, parameter in found.params.items()}
    typed = set()
    for part in parts:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in found.params or not equals:
            have = ", ".join(found.params) or "none"
            near = did_you_mean(name, found.params)
            raise ValueError(f"{visible(given)}: no parameter {part!r}.{near} It has {have}.")
        if name in typed:
            raise ValueError(f"{visible(given)}: {name} is given twice.")
        typed.add(name)
        values[name] = read_value(found.name, name, found.params[name], value)
    found.route  # noqa: B018  (a function that cannot be compiled is refused here)
    return BoundRouting(found, values, visible(given))


def parse_routings(text: str) -> list[BoundRouting]:
    """The routing policies of a comma-separated list; ``ValueError`` for an empty entry or one given twice."""
    entries = [entry.strip() for entry in text.split(",")]
    for entry in entries:
        if not entry:
            raise ValueError(f"routing={text!r} has an empty entry: give names separated by commas.")
        if entries.count(entry) > 1:
            raise ValueError(f"routing {entry} is given {entries.count(entry)} times: give it once.")
    return [parse_routing(entry) for entry in entries]


def _of_file(file: str, name: str) -> RoutingPolicy:
    """The routing policy ``name`` of a user's file: one that it registers, or a plain function."""
    found = load_function(file, name, RoutingPolicy)
    if isinstance(found, RoutingPolicy):
        return found
    _check_signature(name, found)
    return RoutingPolicy(name, found, first_line(found), declared({}))


def _check_signature(name: str, function: Callable) -> None:
    """``ValueError`` unless ``function`` can be called with (record, params, memory, rng)."""
    signature = inspect.signature(function)
    if [p.kind for p in signature.parameters.values()] != [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 4:
        raise ValueError(
            f"{name}{signature} is not a routing: give def {name}(record, params, memory, rng), which returns the "
            f"number of a server."
        )
