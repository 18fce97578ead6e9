"""The suggestion in refusals: written once, used by options, names and parameters."""

from __future__ import annotations

import pytest

from llmsched_env.options.suggest import did_you_mean

KNOWN = ("static", "dynamic", "multibin", "multibin-fixed", "A100")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("statc", "static"),
        ("DYNAMIK", "dynamic"),
        ("mult", "multibin"),  # its beginning comes before its likeness
        ("multibin-", "multibin-fixed"),
        ("a10", "A100"),  # as it is written, not as it was typed
    ],
)
def test_the_word_that_was_meant(word: str, meant: str) -> None:
    assert did_you_mean(word, KNOWN) == f" Did you mean {meant}?"


@pytest.mark.parametrize("word", ["", "qqqq", "1.5"])
def test_nothing_is_suggested_where_nothing_is_alike(word: str) -> None:
    assert did_you_mean(word, KNOWN) == "" and did_you_mean(word, ()) == ""
