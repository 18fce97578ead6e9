"""What a profile says about itself besides its law: the fields that commands read, checked before any command does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from llmsched_env.files.showing import shortened

PHASES = ("decode", "prefill", "e2e", "step", "tpot", "ttft")
"""What a profile may know errors of; ``step``: the matrix products of a step alone."""

POINT = 7
"""Numbers of a measured point: prompt, output, clients, then TTFT and TPOT measured, TTFT and TPOT simulated."""


def check_facts(facts: Mapping[str, Any]) -> None:
    """``ValueError`` names a field of ``facts`` that is not what its readers expect; null says nothing and is allowed.

    Fields that nothing reads may be anything.
    """
    for name, value in facts.items():
        good, wanted = CHECKS.get(name, (_anything, ""))
        if value is not None and not good(value):
            raise ValueError(f"{name}={shortened(repr(value))} is not allowed: give {wanted}.")


def _anything(value: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e300


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_error(value: Any) -> bool:
    high = value.get("p95", value.get("p90")) if isinstance(value, Mapping) else None
    return _is_number(high) and _is_number(value.get("median"))


def _are_errors(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind", ""), str):
        return False
    return all(_is_error(value[phase]) for phase in PHASES if phase in value)


def _is_range(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    return pair and value[0] <= value[1]


def _are_ranges(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_range, value.values()))


def _are_settings(value: Any) -> bool:
    if not isinstance(value, Mapping) or isinstance(value.get("token_budget"), str):
        return False
    return all(each is None or isinstance(each, str) or _is_number(each) for each in value.values())


def _are_points(value: Any) -> bool:
    rows = isinstance(value, list) and len(value) > 0 and all(isinstance(row, list) for row in value)
    return rows and all(len(row) == POINT and all(_is_number(x) and 0 < x < math.inf for x in row) for row in value)


TEXTS = (
    *("gpu", "model", "engine", "version", "precision", "dtype", "clock", "source", "errors_kind", "not_included"),
    *("not_measured", "measured_from", "measured_to", "rows"),
)

CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(TEXTS, (_is_text, "a text")),
    "measured": (_is_truth, "true or false"),
    "estimated": (_is_truth, "true or false"),
    "points": (_is_number, "a number"),
    "caveats": (_are_texts, "a list of texts"),
    "errors": (_are_errors, "an object of phases, each with the numbers median and p95 (or p90)"),
    "measured_range": (_are_ranges, "an object of pairs [lowest, highest]"),
    "engine_settings": (_are_settings, "an object of options, each a text, a number or null"),
    "measured_points": (_are_points, f"a list of points of {POINT} numbers above 0 each"),
}
"""By field: whether a value is what its readers expect, and what that is."""
