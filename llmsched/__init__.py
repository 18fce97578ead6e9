"""One import name for the folders beside the library: ``llmsched.policies``, ``llmsched.train``, ``llmsched.eval``.

A wheel holds those folders inside this package, so that no generic name (`policies`, `train`, `eval`) appears in
anybody's site-packages.  In a checkout they lie beside this package, and the search path is extended to them: the
same import works in both.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]

if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "policies").is_dir():
    __path__.append(str(_CHECKOUT))
