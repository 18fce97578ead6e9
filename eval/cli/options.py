"""The command-line options of every experiment, made from the declarations of llmsched_env.options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

from llmsched.eval.cli.readers import choice, number, option_reader
from llmsched.eval.report.markup import FORMATS
from llmsched_env.commands.parser import OneLineParser, RenamedOption
from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import UNITS, Choice
from llmsched_env.options.table import OPTIONS

MAX_SEED = 2**32 - 1
SCENARIOS = ("default", "llama2-h100", "memory")
FLAGS: Mapping[str, Option] = {option.dest: option for option in OPTIONS.values() if option.flag}
"""The options that the command line has, by the name in a parsed command line."""

LISTS = ("slo", "slo_classes")
"""Options that take several values."""


def add_scenario_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is simulated; what is not given comes from the scenario."""
    first = parser.add_argument_group("scenario", "What is not given comes from the named scenario.")
    about = (
        "Named scenario: default, llama2-h100 (a stack of 2023) or memory (a large model whose weights leave little KV "
        "cache). (default: default)"
    )
    first.add_argument("--scenario", type=choice(SCENARIOS), default="default", metavar=braces(SCENARIOS), help=about)
    groups: dict[str, Any] = {}
    exclusive: dict[str, Any] = {}
    for option in FLAGS.values():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        place = groups[option.group]
        if option.one_of:
            if option.one_of not in exclusive:
                exclusive[option.one_of] = place.add_mutually_exclusive_group()
            place = exclusive[option.one_of]
        add_option(place, option)


def add_option(place: Any, option: Option) -> None:
    """One declared option with its reader and help; its earlier names are hidden and warn."""
    kind = option.flag_kind or option.kind
    metavar = braces(kind.words) if isinstance(kind, Choice) else option.metavar
    read, several = option_reader(option), {"nargs": "+"} if option.name in LISTS else {}
    text = help_of(option).replace("%", "%%")
    place.add_argument(option.flag, *option.flags, type=read, dest=option.dest, metavar=metavar, help=text, **several)
    for old in option.old_flags:
        place.add_argument(
            old, type=read, dest=option.dest, action=RenamedOption, present=option.flag, help=argparse.SUPPRESS
        )


def braces(words: tuple[str, ...]) -> str:
    """The words as --help lists them."""
    return f"{{{','.join(words)}}}"


def help_of(option: Option) -> str:
    """Help, unit and default of an option."""
    unit = option.flag_unit or option.unit
    about = [option.help, option.flag_note]
    if option.parts and option.name == "controller":
        about.append(f"Keys: {', '.join(_key(part) for part in option.parts if part.name != 'kind')}.")
    rivals = [other.flag for other in FLAGS.values() if option.one_of and other.one_of == option.one_of]
    if rivals and option.flag != rivals[0]:
        about.append(f"Not with {', '.join(flag for flag in rivals if flag != option.flag)}.")
    facts = [UNITS.get(unit, unit), f"engine {option.engine} only" if option.engine else "", default_of(option)]
    brackets = "; ".join(fact for fact in facts if fact)
    return " ".join(filter(None, about)) + (f" ({brackets})" if brackets else "")


def _key(part: Option) -> str:
    unit = part.flag_unit or part.unit
    return f"{part.flag_key or part.name}{f' ({unit})' if unit else ''}"


def default_of(option: Option) -> str:
    """The default as --help says it; empty where there is none to say."""
    usual, continuous = option.default_in("batch", flag=True), option.default_in("continuous", flag=True)
    if usual is None:
        return f"default: {option.none}" if option.none and not option.one_of else ""
    other = f", {written(option, continuous)} in the engine continuous" if continuous != usual else ""
    return f"default: {written(option, usual)}{other}"


def written(option: Option, value: Any) -> str:
    """A default as it is written on the command line."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}:{item:g}" for key, item in value.items()) or OPTIONS["controller.kind"].default
    return option.shown(value)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how often, where and what for."""
    add = parser.add_argument_group("run").add_argument
    add(
        "--seeds",
        type=number(1, 10_000, whole=True),
        default=5,
        metavar="N",
        help="Number of seeds. Every policy gets the same arrivals under a seed. (default: 5)",
    )
    add("--seed", type=number(0, MAX_SEED, whole=True), default=0, metavar="S", help="First seed. (default: 0)")
    add(
        "--jobs",
        type=number(1, 1024, whole=True),
        default=cores(),
        metavar="N",
        help="Runs at a time. Results do not depend on it. (default: the cores of this machine)",
    )
    add("--out", metavar="DIR", help="Write results.csv, summary.json, figures/ and manifest.json to this folder.")
    add("--json", action="store_true", help="Print the summary as JSON and nothing else.")
    add(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="Form of the tables that are printed: text, markdown (for a page) or latex (for a paper; needs the "
        "package booktabs). (default: text)",
    )


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_price(parser: argparse.ArgumentParser) -> None:
    """The price of a GPU-hour."""
    about = "Money per GPU-hour: adds what output tokens and requests in time cost."
    parser.add_argument("--price", type=number(0, 1e9, above=True), metavar="X", help=about)


def add_report(place: Any) -> None:
    """The page."""
    place.add_argument("--report", metavar="FILE", help="Write one HTML page: tables, figures, scenario, command.")


def add_experiment_options(parser: argparse.ArgumentParser) -> None:
    """The options of whatever is made of cells: what else to leave, and where the runs are made."""
    group = parser.add_argument_group("experiment")
    add_report(group)
    add = group.add_argument
    add("--timeline", metavar="FILE", help="Write batches and requests as a trace for ui.perfetto.dev.")
    add("--ray", metavar="ADDRESS", help="Make the runs on this Ray cluster (auto: the one of this machine).")


def parser_for(program: str, description: str) -> OneLineParser:
    """A parser with the common options; experiments add their own to it."""
    parser = run_parser_for(program, description)
    add_scenario_options(parser)
    return parser


def run_parser_for(program: str, description: str) -> OneLineParser:
    """The same for experiments that bring their own scenarios."""
    parser = short_parser_for(program, description)
    add_run_options(parser)
    add_experiment_options(parser)
    return parser


def page_parser_for(program: str, description: str) -> OneLineParser:
    """The options of runs, and the page, for a command whose runs are no cells: it has no timeline and no cluster."""
    parser = short_parser_for(program, description)
    add_run_options(parser)
    add_report(parser.add_argument_group("experiment"))
    return parser


def short_parser_for(program: str, description: str) -> OneLineParser:
    """A parser without options, whose usage does not list them."""
    return OneLineParser(prog=program, description=description, allow_abbrev=False, usage="%(prog)s [OPTION ...]")
