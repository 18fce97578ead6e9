"""One option, one declaration: every declared option leaves its trace, has its places, refuses what is not allowed."""

from __future__ import annotations

import argparse
import math
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import pytest

from llmsched.eval.cli.options import FLAGS, help_of, parser_for
from llmsched.eval.cli.readers import CONTROLLER, option_reader
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.cache_key import cell_key
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import parse
from llmsched_env.config import SLO, SimConfig
from llmsched_env.envs.options import EnvOptions, parse_options
from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import Choice, Number
from llmsched_env.options.presets import RULES
from llmsched_env.options.table import OPTIONS, held_by
from llmsched_env.servers import parse_servers
from llmsched_env.workload.workload import Workload

WRITTEN = {  # what to write for an option that is neither a number nor a word
    "workload": ("azure-code", "azure-code"),
    "predictor": ("oracle", "oracle"),
    "shared_prefix": ("3:64", "3:64"),
    "think": ("exp:2", "exp:2"),
    "profile": ("h100-80gb_llama2-70b_tp8", "h100-80gb_llama2-70b_tp8"),
    "slo": ("e2el:20000", {"e2el": 20_000.0}),
    "slo_classes": ("a=0.5,e2el:20000 b=0.5,ttft:1000", None),
    "bins": ("(0,64,256,1024)", (0, 64, 256, 1024)),
    "controller": ("peer", {"kind": "peer"}),
    "routing": ("round-robin", "round-robin"),
    "reward": ("", {"miss": 2.0}),
}
NEEDS: dict[str, dict[str, Any]] = {
    "overdue_batch_factor": {"overdue_factor": 2.0},
    "overdue": {"overdue_factor": 2.0},
    "accept_burst": {"accept_rate": 2.0},
    "think": {"concurrency": 5},
    "sessions": {"workload": "coding-agent"},
    "aging_s": {"discipline": "sjf"},
    "returned": {"discipline": "sjf"},
}
"""What has to be given too."""

NUMBERS = (3, 0.25, 0.125, 512)


def other(option: Option, usual_word: str | None = None) -> Any:
    """A value that is allowed and not the default (of words: not ``usual_word``), in the unit of the declaration."""
    kind = option.flag_kind or option.kind
    if isinstance(kind, Choice):
        return next(word for word in kind.words if word != (usual_word or option.default))
    assert isinstance(kind, Number), f"{option.name}: say in WRITTEN what to write"
    usual = (option.default_in("batch", flag=True), option.default_in("continuous", flag=True))
    least = 512 if option.name == "token_budget" else 0  # not less than the largest running set
    return next(value for value in NUMBERS if kind.accepts(value) and value not in usual and value >= least)


def usual_word(option: Option) -> str | None:
    """The word that the default scenario has in the engine of the option: of its rules, or the default."""
    engine = option.engine or "batch"
    return RULES[OPTIONS["rules"].default_in(engine)].get(option.name) or option.default_in(engine, flag=True)


def words_of(option: Option, value: Any = None) -> list[str]:
    """The option on a command line, with what it needs."""
    value = other(option, usual_word(option)) if value is None and option.name not in WRITTEN else value
    words = WRITTEN[option.name][0].split() if option.name in WRITTEN else [str(value)]
    engine = ["--engine", "continuous"] if option.engine == "continuous" else []
    needed = [word for name, need in NEEDS.get(option.name, {}).items() for word in (OPTIONS[name].flag, str(need))]
    return [*engine, *needed, option.flag, *words]


def scenario_of(*words: str) -> Scenario:
    """The scenario of a command line."""
    return scenario_from(parser_for("test", "").read(words))


def traces(scenario: Scenario) -> dict[str, Any]:
    """What tells a run from another: configuration, workload, JSON, heading, title, key."""
    cell = Cell("static", parse("static"), scenario, 0)
    return {
        "simulation": (scenario.config, replace(scenario.workload, slo_shares=(1.0,)), scenario.load),
        "describe": repr(scenario.describe()),
        "heading": heading(scenario, [0]),
        "title": scenario.title,
        "cache key": cell_key(cell),
    }


@cache
def usual(engine: str, needs: str) -> dict[str, Any]:
    """The traces of the default scenario, with what an option needs."""
    return traces(scenario_of("--engine", engine, *needs.split()))


CHANGES = {option.name: words_of(option) for option in FLAGS.values()}
CHANGES |= {
    f"controller {key}": ["--controller", f"paper:{key}={value}"]
    for key in CONTROLLER
    for value in [{"b-min": 2, "eps-memory": 0.1, "ema": 0.5}.get(key, 9)]
}
CHANGES |= {f"slo {key}": ["--goodput", "e2el:30000", f"{key}:1000"] for key in ("ttft", "tpot")}


def test_every_part_is_tried() -> None:
    """The table above covers all parts of the controller."""
    assert {part.name for part in OPTIONS["controller"].parts} == {one.name for one in CONTROLLER.values()} | {"kind"}


@pytest.mark.parametrize("name", CHANGES)
def test_two_runs_that_differ_in_an_option_differ_in_all_that_is_written_down(name: str) -> None:
    """Configuration, summary.json, heading, figure title and cache key."""
    words = CHANGES[name]
    engine = "continuous" if "continuous" in words and name != "engine" else "batch"
    needs = " ".join(f"{OPTIONS[one].flag} {value}" for one, value in NEEDS.get(name, {}).items())
    one, base = traces(scenario_of(*words)), usual(engine, needs)
    assert [trace for trace in base if one[trace] == base[trace]] == []


def test_a_target_that_is_still_to_be_chosen_is_written_down() -> None:
    """``tbt=auto`` has no configuration of its own yet: it is chosen before the runs."""
    one, base = traces(scenario_of("--controller", "paper:tbt=auto")), usual("batch", "")
    assert [trace for trace in base if one[trace] == base[trace]] == ["simulation", "cache key"]


def test_every_value_is_told_from_every_other() -> None:
    """Not only from the default: 2 and 3, by the same option."""
    for option in FLAGS.values():
        if isinstance(option.kind, Number) and option.one_of == "" and option.name != "token_budget":
            values = [value for value in (2, 3, 0.25, 0.125) if option.kind.accepts(value)][:2]
            found = [traces(scenario_of(*words_of(option, value))) for value in values]
            assert len(found) == 2 and all(found[0][trace] != found[1][trace] for trace in found[0]), option.name


def test_every_option_has_its_places_or_says_why_not() -> None:
    """On the command line and in the environments, in both with a help."""
    arguments = {field.name for field in fields(EnvOptions)}
    for option in OPTIONS.values():
        assert option.help.endswith("."), option.name
        if option.part_of:
            continue
        assert bool(option.flag) != bool(option.no_flag), option.name
        assert (option.name in arguments) != bool(option.no_argument), option.name
    assert arguments <= OPTIONS.keys()


def test_every_field_of_the_configuration_is_declared() -> None:
    """No field that no option sets; the shares and names of SLO classes are written with the targets."""
    config = SimConfig(parse_servers("ideal"))
    paths = {"slos.share", "slos.name", "workload.slo_shares", "workload.slo_names"}
    declared = {option.sets for option in OPTIONS.values()} | paths
    for field in fields(SimConfig):
        value = getattr(config, field.name)
        part = value[0] if isinstance(value, tuple) else value
        inner = [f"{field.name}.{one.name}" for one in fields(part)] if is_dataclass(part) else [field.name]
        assert set(inner) <= declared, set(inner) - declared
    assert {f"workload.{field.name}" for field in fields(Workload)} <= declared


ARGUMENTS = [option for option in OPTIONS.values() if not option.part_of and not option.no_argument]


@pytest.mark.parametrize("option", ARGUMENTS, ids=lambda option: option.name)
def test_every_argument_of_the_environments_does_something(option: Option) -> None:
    """It changes the configuration, the workload, or what is read from the options themselves."""
    value = WRITTEN[option.name][1] if option.name in WRITTEN else other(option)
    value = 6 if option.name == "max_bins" else value
    engine = {"engine": "continuous"} if option.engine == "continuous" else {}
    common: dict[str, Any] = {"requests": 40, **engine, **NEEDS.get(option.name, {})}
    change: dict[str, Any] = {option.name: value}
    base, changed = parse_options(common), parse_options(common | change)

    def parts(options: EnvOptions) -> tuple:
        return options.simulation(), options.workloads, options.num_max_bins, options.weights, options.action

    assert parts(changed) != parts(base)


def test_help_says_unit_default_and_allowed_words() -> None:
    """For every option on the command line."""
    whole = parser_for("test", "").format_help()
    text, squeezed = " ".join(whole.split()), "".join(whole.split())
    for option in FLAGS.values():
        assert "".join(help_of(option).split()) in squeezed, option.name  # lines are broken at hyphens
        default = option.default_in("batch", flag=True)
        assert default is None or "default: " in help_of(option), option.name
        kind = option.flag_kind or option.kind
        assert not isinstance(kind, Choice) or f"{option.flag} {{{','.join(kind.words)}}}" in text
    assert "(seconds; default: off)" in help_of(OPTIONS["hold_s"])
    assert "(requests/s; default: 8, 45 in the engine continuous)" in help_of(OPTIONS["rate"])


NUMBERED = [option for option in OPTIONS.values() if isinstance(option.kind, Number)]


def bad_values(kind: Number) -> list[Any]:
    """What a number of this kind is not."""
    found: list[Any] = [math.nan, -math.inf, True, "3", kind.low - 1]
    found += [] if math.isinf(kind.high) else [2 * kind.high + 1]
    found += [] if kind.unlimited else [math.inf]
    found += [] if kind.optional else [None]
    found += [kind.low] if kind.above else []
    return found + ([kind.low + 0.5] if kind.whole else [])


@pytest.mark.parametrize("option", NUMBERED, ids=lambda option: f"{option.part_of} {option.name}")
def test_a_number_that_is_not_allowed_is_refused(option: Option) -> None:
    """One line: name, value, what is allowed.  Never a NaN, a bool, a text, a fraction for a whole number."""
    assert isinstance(option.kind, Number)
    for value in bad_values(option.kind):
        with pytest.raises(ValueError) as caught:
            option.check(value)
        message = str(caught.value)
        assert message.startswith(f"{option.name}={value!r} is not allowed: give a ") and "\n" not in message
        if (option.flag or option.flag_key) and isinstance(value, (int, float)) and value is not True:
            with pytest.raises(argparse.ArgumentTypeError, match="is not allowed: give a "):
                option_reader(option)(repr(option.to_flag(value)))


@pytest.mark.parametrize("holder", ["", "queueing", "controller", "continuous", "slos", "servers"])
def test_the_classes_refuse_what_the_declarations_refuse(holder: str) -> None:
    """A configuration cannot be made with a number that is not allowed."""
    config = replace(SimConfig(parse_servers("ideal")), engine="batch")
    tried = 0
    for option in held_by(holder):
        if not isinstance(option.kind, Number) or option.compound:
            continue
        for value in bad_values(option.kind):
            with pytest.raises(ValueError, match=option.name if holder != "slos" else "slo"):
                part = getattr(config, holder) if holder else config
                replace(part[0] if isinstance(part, tuple) else part, **{option.field: value})
            tried += 1
    assert tried > 5


def test_the_workload_refuses_what_the_declarations_refuse() -> None:
    """The same for the options of the arrivals."""
    for option in held_by("workload"):
        if isinstance(option.kind, Number):
            for value in bad_values(option.kind):
                with pytest.raises(ValueError, match=option.name):
                    Workload(**{"requests": 10, option.field: value})


@pytest.mark.parametrize(
    ("words", "present"),
    [
        (["--late-bin", "2"], ["--overdue-factor"]),
        (["--late-bin", "2", "--triage", "0.5"], ["--overdue-factor", "--overdue-batch-factor"]),
    ],
)
def test_earlier_flags_work_and_warn(words: list[str], present: list[str], capsys: pytest.CaptureFixture) -> None:
    """The same scenario as with the present ones, and a line for each."""
    found = scenario_of(*words)
    said = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" is now called ")[2].rstrip(".") for line in said] == present
    values = [word for word in words if not word.startswith("--")]
    assert found == scenario_of(*(word for pair in zip(present, values, strict=True) for word in pair))
    assert "--late-bin" not in parser_for("test", "").format_help()


@pytest.mark.parametrize(("old", "name"), [("late", "overdue"), ("triage", "overdue_batch")])
def test_earlier_parameters_of_policies_work_and_warn(old: str, name: str) -> None:
    """In the text and in ``bind``."""
    with pytest.warns(UserWarning, match=f"the parameter {old} of static is now called {name}"):
        assert parse(f"static:{old}=2").values[name] == 2.0
    with pytest.warns(UserWarning):
        assert parse("static").with_params(**{old: 1.0}).values[name] == 1.0


def test_the_overdue_queue_is_named_among_the_bins() -> None:
    """As many names as queues, in heading and figures."""
    scenario = scenario_of("--bins", "(0,64)", "--overdue-factor", "2")
    assert scenario.bin_names == ["[0, 64)", "[64, inf)", "overdue"]
    assert len(scenario.bin_names) == scenario.config.queueing.num_queues
    assert "2 bins [0, 64) [64, inf) and an overdue queue" in " ".join(heading(scenario, [0]).split())


def test_an_option_of_the_other_engine_is_refused() -> None:
    """It would do nothing."""
    for words, engine in ((["--prefill", "first"], "continuous"), (["--max-tokens", "9"], "batch")):
        other_engine = {"batch": "continuous", "continuous": "batch"}[engine]
        with pytest.raises(ValueError, match=f"belongs to the engine {engine}: give --engine {engine}"):
            scenario_of("--engine", other_engine, *words)


def test_targets_are_milliseconds_outside_and_seconds_inside() -> None:
    """The unit is part of the declaration."""
    assert scenario_of("--goodput", "ttft:1500").config.slos == EnvOptions(slo={"ttft": 1500}).simulation().slos
    assert EnvOptions(slo={"ttft": 1500}).simulation().slos == (SLO(ttft_s=1.5),)
    with pytest.raises(ValueError, match=r"slo ttft=-1 is not allowed: give a number above 0, or inf \(milliseconds\)"):
        EnvOptions(slo={"ttft": -1})
