"""Writes docs/reference/python_api.md from the signatures and docstrings of the Python interface.

python docs/tools/make_python_api_page.py          writes the page
python docs/tools/make_python_api_page.py --check  says whether it is up to date (exit status 1: it is not)
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "reference" / "python_api.md"

HEAD = """<!-- Made by docs/tools/make_python_api_page.py from the docstrings: change those. -->

# Python API

What the command `compare` does, from Python: the same code, the same digits.  An installed wheel has these names, and
so has a checkout after `pip install -e .`.  `import llmsched` is light: the simulator is loaded when one of these names
is first used.

```python
from llmsched import Scenario, compare

scenario = Scenario(workload="azure-conv", rate=8.0, servers=4, slo={"e2el": 4000}, requests=2000)
result = compare(["static:batch=auto", "dynamic", "multibin"], scenario, seeds=3)
print(result)  # the table of the command
print(result.runs()[["policy", "seed", "slo_attainment", "p95_ttft_ms"]])  # pandas: a row per run
print(result.to_latex())
result.plot("latency_cdf").savefig("cdf.png")
```

A sweep is a loop; the DataFrames of its steps can be put together:

```python
import pandas as pd

from llmsched import Scenario, compare

base = Scenario(requests=1000)
rates = (4.0, 8.0)
found = {rate: compare("static:batch=auto,multibin", base.replace(rate=rate), seeds=2).means() for rate in rates}
print(pd.concat(found, names=["rate"])["slo_attainment"].unstack())
```

A policy of your own is a function, here in the same file or notebook ([all about policies](policies.md)):

```python
from llmsched import Scenario, compare


def patient(record, params, memory, rng):
    \"\"\"Waits until eight requests wait, or nothing more can come.\"\"\"
    if record.waiting < 8 and record.can_wait:
        return record.num_bins, 0
    return record.num_bins, 8


print(compare([patient, "static"], Scenario(requests=500), seeds=2).means()["slo_attainment"])
```
"""


def flowing(text: str) -> str:
    """A docstring as Markdown: what is literal between single backquotes."""
    return re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(text), flags=re.S)


def signature(name: str, function: Any) -> str:
    """``name(...) -> type`` as it is written, without ``self``."""
    found = inspect.signature(function)
    kept = [parameter for parameter in found.parameters.values() if parameter.name != "self"]
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", f"{name}{found.replace(parameters=kept)}")  # annotations are texts


def function_text(name: str, function: Any) -> str:
    """A section of a function or method."""
    return f"### `{signature(name, function)}`\n{flowing(function.__doc__ or '')}\n"


def members(cls: type) -> str:
    """Sections of the public methods and properties of a class, in the order of the source."""
    parts = []
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            parts.append(f"### `.{name}`\n{flowing(member.__doc__ or '')}\n")
        elif inspect.isfunction(member):
            parts.append(function_text(f".{name}", member))
    return "\n".join(parts)


def arguments() -> str:
    """The arguments of a scenario: what is said of the options, in a table."""
    from llmsched import Scenario
    from llmsched.eval.cli.options import SCENARIOS, default_of
    from llmsched_env.options.kinds import UNITS
    from llmsched_env.options.table import OPTIONS

    rows = ["| argument | type | meaning | option of `compare` |", "|---|---|---|---|"]
    for field in dataclasses.fields(Scenario):
        kind = str(field.type).removesuffix(" | None").replace("|", "\\|")
        if field.name == "named":
            about, flag = (
                f"The named scenario that the others change: {', '.join(SCENARIOS)}. (default: default)",
                "`--scenario`",
            )
        else:
            option = OPTIONS[field.name]
            unit = UNITS.get(option.unit, option.unit)
            engine = f"Engine `{option.engine}`: " if option.engine else ""
            usual = default_of(option)
            brackets = "; ".join(fact for fact in (unit, usual) if fact)
            about = f"{engine}{option.help}{f' ({brackets})' if brackets else ''}".replace("|", "\\|")
            flag = f"`{option.flag}`"
        rows.append(f"| `{field.name}` | `{kind}` | {about} | {flag} |")
    forms = (
        "`slo` is a mapping of targets in ms, `{'ttft': 1000, 'tpot': 50}`, or the name of a benchmark's limits. "
        "`slo_classes` maps names to shares and targets, `{'chat': {'share': 0.8, 'ttft': 1000}, 'batch': {'share': "
        "0.2, 'e2el': 60000}}`. `controller` maps the parts of [environment.md](environment.md) (`tbt_s` may be "
        "`'auto'`). `bins` is a number or the lower bounds, `(0, 64, 256)`."
    )
    return "\n".join([*rows, "", forms, ""])


def page() -> str:
    """The whole text."""
    from llmsched import ComparisonResult, Scenario, compare

    return "\n".join(
        [
            HEAD,
            "## `compare`",
            function_text("compare", compare),
            "## `Scenario`",
            flowing(Scenario.__doc__ or ""),
            "",
            arguments(),
            members(Scenario),
            "## `ComparisonResult`",
            flowing(ComparisonResult.__doc__ or ""),
            "",
            "`.notes` holds what has to be known to read the result: warnings, choices, overloaded policies.",
            "",
            members(ComparisonResult),
        ]
    )


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    from made.page import write_or_check

    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    return write_or_check(PAGE, page(), bool(arguments))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sys.exit(main(sys.argv[1:]))
