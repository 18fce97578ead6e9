"""The declaration of an option: everything that is said about it anywhere.

The classes of llmsched_env.config, the environments' keyword arguments, the command line, summary.json, headings,
titles and the manual take names, defaults, units, bounds, help and refusals from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmsched_env.options.kinds import Choice, Form, Kind, Number

PER_UNIT = {("s", "ms"): 1000.0}
"""How many of the second unit make one of the first."""

SAME: Any = object()
"""A default that is the one of the environments."""


@dataclass(frozen=True)
class Option:
    """One option.

    Its value is held in a field of a class, in ``unit``; what a user writes may have another form (``flag_unit``,
    ``argument_unit``, ``sets`` of several fields), which is declared here too.  ``name`` is the environments' keyword.
    """

    name: str
    help: str  # one or two short sentences, without unit, default and allowed values, which are added
    kind: Kind
    default: Any = None  # of the environments, and of the command line's scenario `default`
    unit: str = ""
    sets: str = ""  # where the value is held: "queueing.hold_s" is SimConfig.queueing.hold_s; "workload...": Workload
    none: str = ""  # what None means: "the profile's"
    unlimited: str = "no limit"  # what inf means
    one_of: str = ""  # of the options with the same mark only one may be given on the command line
    label: str = ""  # the words of headings and titles; empty: the name without its unit
    json: str = ""  # key in summary.json; empty: the name
    engine: str = ""  # the only engine that has it; empty: both
    continuous_default: Any = SAME  # default in the engine `continuous`
    group: str = ""  # heading in --help
    flag: str = ""  # on the command line; empty: not there, and `no_flag` says why
    flags: tuple[str, ...] = ()  # other spellings of the flag
    no_flag: str = ""
    metavar: str = ""
    flag_unit: str = ""  # empty: `unit`
    flag_kind: Kind | None = None  # what the command line allows, where that is less or another form
    flag_default: Any = SAME  # default on the command line
    flag_note: str = ""  # what is special on the command line
    no_argument: str = ""  # why the environments do not have it; empty: they do
    argument_unit: str = ""  # empty: `unit`
    argument_kind: Kind | None = None  # what the environments allow, where that is another form
    argument_note: str = ""  # what is special in the environments
    old_names: tuple[str, ...] = ()  # earlier keywords, which warn
    old_flags: tuple[str, ...] = ()
    part_of: str = ""  # the option that this one is a part of
    flag_key: str = ""  # name of a part on the command line; empty: `name`
    parts: tuple[Option, ...] = field(default=(), compare=False)

    @property
    def field(self) -> str:
        """Name of the field that holds the value."""
        return self.sets.rpartition(".")[2]

    @property
    def full_name(self) -> str:
        """The name, after that of the option it is part of: ``controller alpha``."""
        return f"{self.part_of} {self.name}" if self.part_of else self.name

    @property
    def compound(self) -> bool:
        """Whether what a user writes is not what the field holds (a list, a mapping, a count): readers translate."""
        return isinstance(self.kind, Form) or self.sets in ("servers", "servers.profile", "workload.source")

    @property
    def dest(self) -> str:
        """Name under which a parsed command line holds it."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def words(self) -> str:
        """Its name in headings and titles."""
        return self.label or self.full_name.removesuffix(f"_{self.unit}").replace("_", " ")

    @property
    def json_key(self) -> str:
        """Its key in summary.json."""
        return self.json or self.name

    def check(self, value: Any, name: str = "") -> None:
        """Raise ``ValueError`` unless ``value`` is allowed in the field that holds it (in ``unit``)."""
        check(name or self.name, value, self.kind, self.unit)

    def check_argument(self, value: Any, name: str = "") -> None:
        """Raise ``ValueError`` unless ``value`` is allowed as an argument of an environment (in ``argument_unit``)."""
        unit = self.argument_unit or self.unit
        check(name or self.name, value, self.argument_kind or in_unit(self.kind, self.unit, unit), unit)

    def from_argument(self, value: Any) -> Any:
        """An argument of an environment in ``unit``."""
        return value if value is None else value / per_unit(self.unit, self.argument_unit)

    def default_in(self, engine: str, *, flag: bool = False) -> Any:
        """The default in an engine, of the environments or of the command line (``flag``)."""
        if flag and self.flag_default is not SAME:
            return self.flag_default
        return (
            self.continuous_default if engine == "continuous" and self.continuous_default is not SAME else self.default
        )

    def from_flag(self, value: Any) -> Any:
        """A value of the command line in ``unit``."""
        return value if value is None else value / per_unit(self.unit, self.flag_unit)

    def to_flag(self, value: Any) -> Any:
        """A value in ``unit`` as the command line takes it."""
        return value if value is None else value * per_unit(self.unit, self.flag_unit)

    def said(self, value: Any) -> str:
        """Its words and ``value`` (given in ``unit``), as headings show them: ``hold timer 2 s``."""
        unit = self.flag_unit or self.unit
        if isinstance(value, (int, float)) and self.flag_unit:
            value = self.to_flag(value)
        return f"{self.words} {self.shown(value)}{f' {unit}' if unit and value not in (None, math.inf) else ''}"

    def shown(self, value: Any) -> str:
        """``value`` as a person writes it, with the option's own words for None and inf."""
        if value is None or value == math.inf:
            return self.none if value is None else self.unlimited
        return shown(value)


def check(name: str, value: Any, kind: Kind, unit: str = "") -> None:
    """Raise ``ValueError`` in one line unless ``kind`` accepts ``value``."""
    if kind.accepts(value):
        return
    if isinstance(kind, Choice) and isinstance(value, str):
        raise ValueError(f"{name}={value!r} is not known.{kind.nearest(value)} Choose {kind.allowed()}.")
    raise ValueError(f"{name}={value!r} is not allowed: give {kind.allowed(unit)}.")


def per_unit(unit: str, other: str) -> float:
    """How many of ``other`` make one ``unit``; 1 where there is no other."""
    return 1 if other in ("", unit) else PER_UNIT[unit, other]


def in_unit(kind: Kind, unit: str, other: str) -> Kind:
    """``kind`` with its bounds, given in ``unit``, in another unit."""
    return kind.scaled(per_unit(unit, other)) if isinstance(kind, Number) else kind


def shown(value: Any) -> str:
    """``value`` as a person writes it: 2,048 or 0.3."""
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:.10g}"
    return str(value)


def by_name(*options: Option) -> Mapping[str, Option]:
    """The declarations by name; a part of another under ``NAME.KEY``."""
    found: dict[str, Option] = {}
    for option in options:
        for name, one in [(option.name, option), *((f"{option.name}.{part.name}", part) for part in option.parts)]:
            if name in found:
                raise ValueError(f"the option {name} is declared twice.")
            found[name] = one
    return found
