"""The options of every experiment, defined once: parsed, checked, refused in one line (exit 2)."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from llmsched_env.config import (
    ADMISSIONS,
    DISCIPLINES,
    ENGINES,
    MAX_BATCH_LIMIT,
    MAX_BINS,
    MAX_SERVERS,
    PREFILLS,
    RELEASES,
    ROUTINGS,
    SLO,
)
from llmsched_env.envs.options import SLO_KEYS
from llmsched_env.suggest import did_you_mean
from llmsched_env.workload.bins import parse_edges
from llmsched_env.workload.predictors import parse_predictor

MAX_SEED = 2**32 - 1
SCENARIOS = ("default", "memory")
CONTINUOUS_OPTIONS = ("prefill", "token_budget", "admission", "routing")
"""Options that are fields of config.Continuous."""

ORDERS = tuple(name for name in DISCIPLINES if not name.startswith("oracle-"))
"""Clairvoyant orders belong to policies that carry it in their name."""

CONTROLLER_FIELDS = {
    "tbt": ("tbt_s", 1e-3),
    "eps": ("eps_s", 1e-3),
    "alpha": ("alpha", 1.0),
    "delta": ("delta", 1.0),
    "b-min": ("b_min", 1),
    "eps-memory": ("eps_memory", 1.0),
    "ema": ("ema", 1.0),
}
"""Keys of --controller, the field of config.Controller each sets, and its unit there (ms become s)."""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose refusals are one line: the value, what is allowed, the nearest choice."""

    def error(self, message: str) -> NoReturn:
        """Print ``PROGRAM: error: MESSAGE`` on standard error and exit with 2."""
        refuse(self.prog, message)

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """The options in ``argv`` (default: the command line); an unknown one names the nearest known."""
        found, unknown = self.parse_known_args(argv)
        if unknown:
            known = [text for action in self._actions for text in action.option_strings]
            self.error(f"{unknown[0]} is not an option.{did_you_mean(unknown[0].split('=')[0], known)} See --help.")
        return found


def refuse(program: str, message: str) -> NoReturn:
    """Print one line on standard error and exit with 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def number(low: float, high: float, *, above: bool = False, whole: bool = False) -> Callable[[str], float]:
    """A reader of numbers from ``low`` (``above``: excluded) to ``high``, whole ones as int."""
    wanted = f"give a {'whole ' * whole}number {'above' if above else 'from'} {low:g}"
    if high < math.inf:
        wanted += f"{' and at most' if above else ' to'} {high:.10g}"

    def read(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: {wanted}")
        return value

    return read


def choice(allowed: Sequence[str]) -> Callable[[str], str]:
    """A reader of one of the words ``allowed``."""

    def read(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not known.{did_you_mean(text, allowed)} Choose one of {', '.join(allowed)}"
            )
        return text

    return read


def read_kv_tokens(text: str) -> float:
    """KV capacity of every server in tokens; ``inf`` for no limit."""
    if text.lower() == "inf":
        return math.inf
    try:
        return number(2, 1e12, whole=True)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: give a whole number of tokens from 2, or inf"
        ) from None


def read_budget(text: str) -> float:
    """Tokens of one iteration; ``inf`` for no limit."""
    if text.lower() == "inf":
        return math.inf
    try:
        return number(1, 1e9, whole=True)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of tokens, or inf") from None


def read_bins(text: str) -> int | tuple[int, ...]:
    """``K``, or lower bounds ``(0,64,256,1024)``: [0,64) [64,256) [256,1024) [1024,inf); gives K or inner edges."""
    try:
        return number(1, MAX_BINS, whole=True)(text) if text.strip("+-").isdigit() else parse_edges(text)  # type: ignore[return-value]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: give a number of bins from 1 to {MAX_BINS}, or bounds like (0,64,256,1024)"
        ) from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def read_target(text: str) -> tuple[str, float]:
    """``ttft:MS``, ``tpot:MS`` or ``e2el:MS``; gives the key and seconds."""
    key, colon, value = text.partition(":")
    if key in SLO_KEYS and not colon:
        raise argparse.ArgumentTypeError(f"{text!r} has no time: give {key}:MS")
    if key not in SLO_KEYS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not known.{did_you_mean(key, list(SLO_KEYS))} Give ttft:MS, tpot:MS or e2el:MS"
        )
    try:
        return key, number(0, 1e12, above=True)(value) / 1000.0
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give {key}:MS with a time above 0 ms") from None


def slo_of(targets: Sequence[tuple[str, float]], *, share: float = 1.0, name: str = "default") -> SLO:
    """The SLO of these (key, seconds); a repeated key is refused with ``ValueError``."""
    keys = [key for key, _ in targets]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the target {key} is given {keys.count(key)} times: give it once.")
    return SLO(**{SLO_KEYS[key]: seconds for key, seconds in targets}, share=share, name=name)


def read_class(text: str) -> SLO:
    """``NAME=SHARE,ttft:MS,e2el:MS``: one SLO class, its share of the arrivals and its targets."""
    name, equals, rest = text.partition("=")
    share, *targets = rest.split(",")
    if not name or not equals or not targets:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an SLO class: give NAME=SHARE,TARGETS like chat=0.8,ttft:1000,e2el:30000"
        )
    try:
        return slo_of([read_target(t) for t in targets], share=number(0, 1, above=True)(share), name=name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_controller(text: str) -> dict[str, float | str]:
    """``paper`` or ``peer``, with or without ``:KEY=VALUE,...``; gives the fields of config.Controller.

    Keys: tbt (ms or ``auto``), eps (ms), alpha, delta, b-min, eps-memory, ema.
    """
    kind, _, rest = text.partition(":")
    found: dict[str, float | str] = {"kind": choice(("paper", "peer"))(kind)}
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        if key not in CONTROLLER_FIELDS or not equals:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not known.{did_you_mean(key, list(CONTROLLER_FIELDS))} "
                f"Give KEY=VALUE with one of {', '.join(CONTROLLER_FIELDS)}"
            )
        field, unit = CONTROLLER_FIELDS[key]
        if key == "tbt" and value == "auto":
            found[field] = "auto"
        else:
            found[field] = number(0, 1e9, whole=unit == 1 and isinstance(unit, int))(value) * unit
    return found


def read_predictor(text: str) -> str:
    """The text of a predictor that exists."""
    try:
        parse_predictor(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_scenario_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is simulated; what is not given comes from the scenario."""
    group = parser.add_argument_group("scenario", "What is not given comes from the named scenario.")
    add = group.add_argument
    add("--scenario", type=choice(SCENARIOS), default="default", help="named scenario: default or memory")
    add("--workload", metavar="NAME|FILE", help="generator, or a trace (CSV or JSON lines, also .gz)")
    rate = group.add_mutually_exclusive_group()
    add_rate = rate.add_argument
    add_rate("--rate", type=number(0, 1e9, above=True), metavar="R", help="mean arrival rate, requests/s")
    add_rate("--rate-scale", type=number(0, 1e9, above=True), metavar="X", help="X times the workload's own rate")
    add_rate("--load", type=number(0, 1e3, above=True), metavar="X", help="X times the capacity of static:batch=auto")
    size = group.add_mutually_exclusive_group()
    size.add_argument("--requests", type=number(1, 1e9, whole=True), metavar="N", help="requests per seed")
    size.add_argument("--duration", type=number(0, 1e12, above=True), metavar="S", help="seconds of arrivals per seed")
    add("--burstiness", type=number(0, math.inf, above=True), metavar="K", help="gamma gaps of shape K (1: Poisson)")
    add("--predictor", type=read_predictor, metavar="P", help="oracle, noisy:S, prompt-only or none")
    add("--profile", metavar="NAME|FILE", help="latency profile, or several: A:2,B:2")
    add(
        "--servers",
        "--gpus",
        type=number(1, MAX_SERVERS, whole=True),
        metavar="N",
        help="servers (a GPU or one tensor-parallel group each)",
    )
    add("--kv-tokens", type=read_kv_tokens, metavar="N|inf", help="KV capacity of every server, tokens")
    add("--bins", type=read_bins, metavar="K|EDGES", help="number of bins, or edges like (0,64,256,1024)")
    add("--engine", type=choice(ENGINES), help="batch (run to completion) or continuous (iteration by iteration)")
    add("--max-batch", type=number(1, MAX_BATCH_LIMIT, whole=True), metavar="B", help="largest batch, or running set")
    add("--release", type=choice(RELEASES), help="when a request is released: end of its batch, or own last token")
    add("--prefill", type=choice(PREFILLS), help="continuous: prompts in chunks beside decodes, or first")
    add("--token-budget", type=read_budget, metavar="N|inf", help="continuous: tokens of one iteration")
    add("--admission", type=choice(ADMISSIONS), help="continuous: reserve predicted lengths, or the prompt's blocks")
    add("--routing", type=choice(ROUTINGS), help="continuous: shared queues, or how arrivals are sent to a server")
    add("--discipline", type=choice(ORDERS), help="order inside a bin for policies that bring none")
    add("--late-bin", type=number(0, 1e6), metavar="X", help="one more bin: who would be late in X x its time alone")
    add("--triage", type=number(0, 1e6), metavar="X", help="... nor in X x the time of the batch being formed")
    add("--controller", type=read_controller, metavar="KIND[:KEY=VALUE,...]", help="paper or peer, e.g. paper:tbt=40")
    slo = group.add_mutually_exclusive_group()
    slo.add_argument("--goodput", type=read_target, nargs="+", metavar="KEY:MS", help="targets ttft:MS tpot:MS e2el:MS")
    slo.add_argument("--slo-classes", type=read_class, nargs="+", metavar="NAME=SHARE,KEY:MS", help="several SLOs")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how often, where and what for."""
    group = parser.add_argument_group("run")
    group.add_argument("--seeds", type=number(1, 10_000, whole=True), default=5, metavar="N", help="seeds (default 5)")
    group.add_argument("--seed", type=number(0, MAX_SEED, whole=True), default=0, metavar="S", help="first seed")
    group.add_argument(
        "--jobs",
        type=number(1, 1024, whole=True),
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        metavar="N",
        help="runs at a time (default: cores); results do not depend on it",
    )
    group.add_argument("--out", metavar="DIR", help="leave results.csv, summary.json, figures/, manifest.json there")
    group.add_argument("--json", action="store_true", help="print the summary as JSON and nothing else")


def add_experiment_options(parser: argparse.ArgumentParser) -> None:
    """The options of whatever is made of cells: what else to leave, and where the runs are made."""
    add = parser.add_argument_group("experiment").add_argument
    add("--report", metavar="FILE", help="leave one HTML page there: tables, figures, scenario, command")
    add("--timeline", metavar="FILE", help="leave the batches on the servers there, as a trace for ui.perfetto.dev")
    add("--ray", metavar="ADDRESS", help="make the runs on this Ray cluster (auto: the one of this machine)")


def parser_for(program: str, description: str) -> OneLineParser:
    """A parser with the common options; experiments add their own to it."""
    parser = run_parser_for(program, description)
    add_scenario_options(parser)
    return parser


def run_parser_for(program: str, description: str) -> OneLineParser:
    """The same for experiments that bring their own scenarios."""
    parser = OneLineParser(prog=program, description=description, allow_abbrev=False)
    add_run_options(parser)
    add_experiment_options(parser)
    return parser
