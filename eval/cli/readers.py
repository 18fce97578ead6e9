"""Readers of what is written after an option: each gives the value, or refuses in one line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmsched_env.config import SLO
from llmsched_env.core.constants import MAX_BINS
from llmsched_env.options.declaration import Option, in_unit
from llmsched_env.options.kinds import Choice, Kind, Number
from llmsched_env.options.presets import TARGETS as PRESETS
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.options.table import OPTIONS
from llmsched_env.workload.bins import parse_edges
from llmsched_env.workload.predictors import parse_predictor

TARGETS: Mapping[str, Option] = {part.name: part for part in OPTIONS["slo"].parts}
"""The latency targets by their keys."""

CONTROLLER: Mapping[str, Option] = {
    part.flag_key or part.name: part for part in OPTIONS["controller"].parts if part.name != "kind"
}
"""The parts of --controller by their keys."""


def of_kind(kind: Kind, unit: str = "") -> Callable[[str], Any]:
    """A reader of what ``kind`` allows."""

    def read(text: str) -> Any:
        """The value, checked."""
        try:
            return kind.read(text)
        except (ValueError, OverflowError):
            pass
        if isinstance(kind, Choice):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not known.{did_you_mean(text, kind.words)} Choose {kind.allowed()}"
            )
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give {kind.allowed(unit)}")

    return read


def number(low: float, high: float, *, above: bool = False, whole: bool = False) -> Callable[[str], Any]:
    """A reader of numbers from ``low`` (``above``: excluded) to ``high``, whole ones as int."""
    return of_kind(Number(low, high, above, whole, unlimited=high == math.inf and not whole))


def choice(allowed: Sequence[str]) -> Callable[[str], str]:
    """A reader of one of the words ``allowed``."""
    return of_kind(Choice(tuple(allowed)))


def option_reader(option: Option) -> Callable[[str], Any]:
    """The reader of a declared option: gives its value in the unit of its declaration."""
    if option.name in FORMS:
        return FORMS[option.name]
    kind, unit = option.flag_kind or option.kind, option.flag_unit or option.unit
    read = of_kind(in_unit(kind, option.unit, unit), unit)
    return read if unit == option.unit else lambda text: option.from_flag(read(text))


read_kv_tokens = of_kind(OPTIONS["kv_tokens"].kind, "tokens")


def read_bins(text: str) -> int | tuple[int, ...]:
    """``K``, or lower bounds ``(0,64,256,1024)``: [0,64) [64,256) [256,1024) [1024,inf); gives K or inner edges."""
    try:
        return number(1, MAX_BINS, whole=True)(text) if text.strip("+-").isdigit() else parse_edges(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give {OPTIONS['bins'].kind.allowed()}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


Targets = tuple[tuple[str, float], ...]


def read_target(text: str) -> Targets:
    """``ttft:MS``, ``tpot:MS``, ``e2el:MS`` or the name of a preset; gives keys and seconds."""
    if text in PRESETS:
        return tuple(PRESETS[text].items())
    key, colon, value = text.partition(":")
    if key in TARGETS and not colon:
        raise argparse.ArgumentTypeError(f"{text!r} has no time: give {key}:MS")
    if key not in TARGETS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not known.{did_you_mean(key, [*TARGETS, *PRESETS])} Give ttft:MS, tpot:MS or e2el:MS, or one "
            f"of {', '.join(PRESETS)}"
        )
    try:
        return ((key, number(0, 1e12, above=True)(value) / 1000.0),)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give {key}:MS with a time above 0 ms") from None


def slo_of(targets: Sequence[tuple[str, float]], *, share: float = 1.0, name: str = "default") -> SLO:
    """The SLO of these (key, seconds); a repeated key is refused with ``ValueError``."""
    keys = [key for key, _ in targets]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the target {key} is given {keys.count(key)} times: give it once.")
    seconds: dict[str, Any] = {TARGETS[key].field: value for key, value in targets}
    return SLO(**seconds, share=share, name=name)


def read_class(text: str) -> SLO:
    """``NAME=SHARE,ttft:MS,e2el:MS``: one SLO class, its share of the arrivals and its targets."""
    name, equals, rest = text.partition("=")
    share, *targets = rest.split(",")
    if not name or not name.isprintable() or not equals or not targets:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an SLO class: give NAME=SHARE,TARGETS like chat=0.8,ttft:1000,e2el:30000"
        )
    try:
        return slo_of(
            [pair for t in targets for pair in read_target(t)], share=number(0, 1, above=True)(share), name=name
        )
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_controller(text: str) -> dict[str, Any]:
    """``paper`` or ``peer``, with or without ``:KEY=VALUE,...``; gives the fields of config.Controller.

    The keys are those of CONTROLLER; ``tbt`` may be ``auto``.
    """
    kind, _, rest = text.partition(":")
    found = {"kind": of_kind(OPTIONS["controller.kind"].kind)(kind)}
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        if key not in CONTROLLER or not equals:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not known.{did_you_mean(key, list(CONTROLLER))} "
                f"Give KEY=VALUE with one of {', '.join(CONTROLLER)}"
            )
        automatic = key == "tbt" and value == "auto"
        try:
            found[CONTROLLER[key].field] = "auto" if automatic else option_reader(CONTROLLER[key])(value)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{key}={error}") from None
    return found


def read_predictor(text: str) -> str:
    """The text of a predictor that exists."""
    try:
        parse_predictor(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


FORMS: Mapping[str, Callable[[str], Any]] = {
    "bins": read_bins,
    "slo": read_target,
    "slo_classes": read_class,
    "controller": read_controller,
    "predictor": read_predictor,
}
"""Readers of the options that are written in a form of their own."""
