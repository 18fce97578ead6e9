"""From typed text to policies: ``static``, ``timeout:batch=16:wait=200``, ``my.py:mine:batch=4``."""

from __future__ import annotations

import re

from llmsched.policies.parameters import Value, read_value
from llmsched.policies.registry import Bound, Policy, get
from llmsched.policies.userfile import load_policy
from llmsched_env.files.showing import visible
from llmsched_env.options.suggest import did_you_mean

_FILE = re.compile(r"(?P<file>.+?\.py)(?::(?P<rest>.*))?")


def parse(text: str) -> Bound:
    """The policy that ``text`` names, its parameters set and its function compiled.

    The text is ``NAME`` or ``FILE.py:FUNCTION``, then ``:PARAMETER=VALUE`` for each parameter; the value ``auto``
    leaves a parameter that has a grid open.  ``ValueError``, in one line, for anything else.
    """
    given = text.strip()
    from_file = _FILE.fullmatch(given)
    if from_file:
        name, *parts = (from_file["rest"] or "").split(":")
        found, source = load_policy(from_file["file"], name.strip()), f"{from_file['file']}:{name.strip()}"
    else:
        name, *parts = given.split(":")
        found = get(name.strip())
        source = found.name
        given = ":".join([source, *parts]) if source != name.strip() else given  # an old name is not shown again
    values: dict[str, Value] = {}
    for part in parts:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        name = found.present_name(name)
        if name not in found.accepted or not equals:
            raise ValueError(_unknown(given, found, name, part))
        if name in values:
            raise ValueError(f"{given}: {name} is given twice.")
        values[name] = read_value(found.name, name, found.accepted[name], value)
    bound = found.bind(values, label=visible(given), source=visible(source))
    bound.decide  # noqa: B018  (a function that cannot be compiled is refused here)
    return bound


def _unknown(given: str, found: Policy, name: str, part: str) -> str:
    if name in found.accepted:
        return f"{given}: {part!r} has no value: write {name}=VALUE, {name} being {found.accepted[name].allowed}."
    offered = ", ".join(found.accepted)
    return f"{given}: {found.name} has no parameter {name!r}.{did_you_mean(name, found.accepted)} It has {offered}."


def parse_list(text: str) -> list[Bound]:
    """The policies of a comma-separated list, in order; ``ValueError`` for an empty entry or one given twice."""
    entries = [entry.strip() for entry in text.split(",")]
    for entry in entries:
        if not entry:
            raise ValueError(f"{text!r} has an empty entry: give names separated by commas, like static,dynamic.")
    bounds = [parse(entry) for entry in entries]
    labels = [bound.label for bound in bounds]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{label} is given {labels.count(label)} times: give it once.")
    return bounds
