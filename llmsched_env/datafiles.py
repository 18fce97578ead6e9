"""Where the shipped numbers lie: ``data/`` beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CANDIDATES = (_PACKAGE / "data", _PACKAGE.parent / "data")


def data_dir(kind: str) -> Path:
    """Folder of the shipped JSON files of one kind, ``"profiles"`` or ``"generators"``.

    Raises ``FileNotFoundError`` where neither a checkout nor an installed wheel has it.
    """
    for root in _CANDIDATES:
        if (root / kind).is_dir():
            return root / kind
    looked = " and ".join(str(root / kind) for root in _CANDIDATES)
    raise FileNotFoundError(f"the shipped {kind} are missing: looked in {looked}. Install the package again.")


@lru_cache
def shipped(kind: str) -> tuple[str, ...]:
    """Names of the shipped files of one kind, sorted, without ``.json``."""
    return tuple(sorted(path.stem for path in data_dir(kind).glob("*.json")))
