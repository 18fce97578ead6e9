"""One import name: ``from llmsched import Scenario, compare``, and the folders beside the library.

``llmsched.policies``, ``llmsched.train``, ``llmsched.eval``: a wheel holds those folders inside this package, so that
no generic name (`policies`, `train`, `eval`) appears in anybody's site-packages.  In a checkout they lie beside this
package, and the search path is extended to them: the same import works in both.

>>> from llmsched import Scenario, compare
>>> result = compare("static,multibin", Scenario(rate=8.0, requests=500), seeds=2)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmsched.eval.api.comparison import ComparisonResult, compare
    from llmsched.eval.api.scenario import Scenario

__all__ = ["ComparisonResult", "Scenario", "compare"]

_CHECKOUT = Path(__file__).resolve().parents[1]

if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "policies").is_dir():
    __path__.append(str(_CHECKOUT))

_HOMES = {
    "ComparisonResult": "llmsched.eval.api.comparison",
    "Scenario": "llmsched.eval.api.scenario",
    "compare": "llmsched.eval.api.comparison",
}
"""Where the names lie that are imported when they are first asked for: ``import llmsched`` loads nothing heavy."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
