"""The suggestion in a refusal: which known word the user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.5
"""Least similarity (difflib's ratio) of a word that is suggested."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" Did you mean X?"`` for the known word X that begins with ``word``, else for the most similar one.

    Upper and lower case count as equal.  The text is empty where no known word is similar, so that it can stand between
    two sentences of a message.
    """
    by_lower = {text.lower(): text for text in known}
    lower = word.lower()
    close = [text for text in by_lower if lower and text.startswith(lower)]
    close = close or difflib.get_close_matches(lower, by_lower, n=1, cutoff=CUTOFF)
    return f" Did you mean {by_lower[close[0]]}?" if close else ""
