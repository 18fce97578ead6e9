"""From typed text to policies: ``static``, ``timeout:batch=16:wait=200``, ``my.py:mine:batch=4``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmsched.policies.parameters import Value, read_value
from llmsched.policies.registry import CLAIRVOYANT, Bound, Policy, get, names
from llmsched.policies.userfile import load_policy
from llmsched_env.files.showing import visible
from llmsched_env.options.suggest import did_you_mean

LABEL = "label"
"""What every policy takes beside its parameters: the name that tables, figures and files show for it."""

LONGEST_LABEL = 34
"""Most letters of a label: a table shows so many."""

FILE = re.compile(r"(?P<file>.+?\.py)(?::(?P<rest>.*))?")
"""A function of a user's file, as it is typed."""


def parse(text: str) -> Bound:
    """The policy that ``text`` names, its parameters set and its function compiled.

    The text is ``NAME`` or ``FILE.py:FUNCTION``, then ``:PARAMETER=VALUE`` for each parameter; the value ``auto``
    leaves a parameter that has a grid open, and ``label=TEXT`` names the policy in results.  ``ValueError``, in one
    line, for anything else.
    """
    given = text.strip()
    from_file = FILE.fullmatch(given)
    if from_file:
        name, *parts = (from_file["rest"] or "").split(":")
        found, source = load_policy(from_file["file"], name.strip()), f"{from_file['file']}:{name.strip()}"
    else:
        name, *parts = given.split(":")
        found = get(name.strip())
        source = found.name
    values: dict[str, Value] = {}
    label = ""
    for part in parts:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name == LABEL and LABEL not in found.params:
            if label:
                raise ValueError(f"{given}: {LABEL} is given twice.")
            label = _label(given, found, value)
            continue
        name = found.present_name(name)
        if name not in found.accepted or not equals:
            raise ValueError(_unknown(given, found, name, part))
        if name in values:
            raise ValueError(f"{given}: {name} is given twice.")
        values[name] = read_value(found.name, name, found.accepted[name], value)
    texts = {"given": visible(given), "source": visible(source)}
    bound = found.bind(values, **texts, label=label)
    bound.decide  # noqa: B018  (a function that cannot be compiled is refused here)
    _check_prefix(given, bound)
    if bound.clairvoyant and not bound.label.startswith(CLAIRVOYANT):
        return found.bind(values, **texts, label=f"{CLAIRVOYANT}{bound.label}")  # results say it of every policy
    return bound


def _label(given: str, policy: Policy, text: str) -> str:
    """A label that was typed; ``ValueError`` unless it can stand for the policy in a table without a wrong reading."""
    if not text or len(text) > LONGEST_LABEL or not text.isprintable():
        raise ValueError(f"{visible(given)}: give {LABEL}=TEXT with 1 to {LONGEST_LABEL} printable letters.")
    if text != policy.name and text in names():
        raise ValueError(f"{given}: {text} is another policy: give another label.")
    return text


def _check_prefix(given: str, bound: Bound) -> None:
    """``ValueError`` where a label that was typed says of a policy what is not true."""
    if bound.labelled and bound.label.startswith(CLAIRVOYANT) != bound.clairvoyant:
        why = "knows" if bound.clairvoyant else "does not know"
        rule = "begins" if bound.clairvoyant else "cannot begin"
        raise ValueError(f"{given}: {bound.name} {why} true output lengths, so its label {rule} with {CLAIRVOYANT}")


def _unknown(given: str, found: Policy, name: str, part: str) -> str:
    if name in found.accepted:
        return f"{given}: {part!r} has no value: write {name}=VALUE, {name} being {found.accepted[name].allowed}."
    known = [*found.accepted, LABEL]
    return f"{given}: {found.name} has no parameter {name!r}.{did_you_mean(name, known)} It has {', '.join(known)}."


def parse_list(text: str) -> list[Bound]:
    """The policies of a comma-separated list, in order; ``ValueError`` for an empty entry or one given twice."""
    entries = [entry.strip() for entry in text.split(",")]
    for entry in entries:
        if not entry:
            raise ValueError(f"{text!r} has an empty entry: give names separated by commas, like static,dynamic.")
    bounds = [parse(entry) for entry in entries]
    check_labels(bounds)
    return bounds


def check_labels(bounds: Sequence[Bound]) -> None:
    """``ValueError`` where two of the policies have the same label: results could not be told apart."""
    labels = [bound.label for bound in bounds]
    for label in labels:
        if labels.count(label) > 1:
            named = f", or give each a label ({LABEL}=TEXT) of its own"
            raise ValueError(f"{label} is given {labels.count(label)} times: give it once{named}.")


def label_notes(bounds: Sequence[Bound]) -> list[str]:
    """A sentence that says what the given labels stand for, for the notes of a result; none where none was given."""
    given = [f"{bound.label} = {bound.text}" for bound in bounds if bound.labelled]
    return [f"Labels: {', '.join(given)}."] if given else []
