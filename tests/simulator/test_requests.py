"""Requests: what is given becomes arrays that the kernels take."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmsched_env.requests import Requests


def test_read_only_arrays_are_copied():
    """A column of a data frame may be read-only, and broadcast arrays are; the kernels take neither."""
    frame = pd.DataFrame({"sent": [0.0, 1.0, 2.5], "tokens": np.array([3, 4, 5], np.int32)})
    sent, tokens = frame["sent"].to_numpy(), frame["tokens"].to_numpy()
    for array in (sent, tokens):
        array.setflags(write=False)
    classes = np.broadcast_to(np.int8(1), 3)
    links: dict[str, Any] = {"parent": np.broadcast_to(np.int32(-1), 3), "think_s": np.broadcast_to(0.5, 3)}
    made = Requests(sent, tokens, tokens, tokens, classes, np.broadcast_to(np.int64(7), 3), tokens, **links)
    for name in [field.name for field in fields(made) if field.name not in ("hash_tokens", "concurrency")]:
        array = getattr(made, name)
        assert array.flags.writeable, name
        assert array.flags.c_contiguous, name
    np.testing.assert_array_equal(made.arrival_s, [0.0, 1.0, 2.5])
    np.testing.assert_array_equal(made.prompt_tokens, [3, 4, 5])
    np.testing.assert_array_equal(made.slo_class, [1, 1, 1])


def test_writeable_arrays_of_the_right_kind_are_taken_as_they_are():
    """No copy of what fits."""
    sent, tokens = np.array([0.0, 1.0]), np.array([3, 4], np.int32)
    made = Requests.checked(sent, tokens, tokens)
    assert made.arrival_s is sent
    assert made.prompt_tokens is tokens


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("truth", [True, np.True_])
def test_truth_values_are_no_numbers_in_a_list_of_others_either(place: int, truth: object) -> None:
    """An array would take True for 1 token, or for 1 s, in silence."""
    columns: list[list] = [[0.0, 1.0, 2.0], [3, 4, 5], [3, 4, 5]]
    columns[place][1] = truth
    with pytest.raises(ValueError, match=r"arrival_s is not a row of numbers|tokens\[1\]=True is not allowed"):
        Requests.checked(*columns)


def hashed(hashes=(5, 6, 7), hashed_tokens=(32, 0, 3), hash_tokens=16) -> Requests:
    """Three requests of 40, 2 and 3 tokens in all."""
    tokens = np.array([20, 1, 1], np.int32), np.array([20, 1, 2], np.int32)
    classes = np.zeros(3, np.int8)
    return Requests(np.arange(3.0), *tokens, tokens[1], classes, hashes, hashed_tokens, hash_tokens)


def test_parts_keep_their_hashes_and_join_again():
    """Request 0 has two hashes, 1 none, 2 one."""
    requests = hashed()
    np.testing.assert_array_equal(requests.hash_offsets, [0, 2, 2, 3])
    parts = [requests.part(0, 1), requests.part(1, 2), requests.part(2, 9)]
    assert [part.hashes.tolist() for part in parts if part.hashes is not None] == [[5, 6], [], [7]]
    together = Requests.joined(parts)
    for field in fields(requests):
        np.testing.assert_array_equal(getattr(together, field.name), getattr(requests, field.name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hashes": None}, "go together"),
        ({"hashes": (5, 6)}, "give 3 values"),
        ({"hashes": (5, 6, 0.5)}, "hashes[2]=0.5"),
        ({"hashed_tokens": (41, 0, 3)}, "hashed_tokens[0]=41"),
        ({"hashed_tokens": (32, -1, 3)}, "hashed_tokens[1]=-1"),
        ({"hash_tokens": 24}, "hash_tokens=24"),
        ({"hash_tokens": 0}, "hash_tokens=0"),
    ],
)
def test_hashes_are_checked(change, said):
    """One line that names the value."""
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        hashed(**change)
    assert said in str(error.value)
