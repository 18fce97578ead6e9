"""Requests: what is given becomes arrays that the kernels take."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd

from llmsched_env.requests import Requests


def test_read_only_arrays_are_copied():
    """A column of a data frame may be read-only, and broadcast arrays are; the kernels take neither."""
    frame = pd.DataFrame({"sent": [0.0, 1.0, 2.5], "tokens": np.array([3, 4, 5], np.int32)})
    sent, tokens = frame["sent"].to_numpy(), frame["tokens"].to_numpy()
    for array in (sent, tokens):
        array.setflags(write=False)
    classes = np.broadcast_to(np.int8(1), 3)
    made = Requests.checked(sent, tokens, tokens, tokens, classes)
    for field in fields(made):
        array = getattr(made, field.name)
        assert array.flags.writeable, field.name
        assert array.flags.c_contiguous, field.name
    np.testing.assert_array_equal(made.arrival_s, [0.0, 1.0, 2.5])
    np.testing.assert_array_equal(made.prompt_tokens, [3, 4, 5])
    np.testing.assert_array_equal(made.slo_class, [1, 1, 1])


def test_writeable_arrays_of_the_right_kind_are_taken_as_they_are():
    """No copy of what fits."""
    sent, tokens = np.array([0.0, 1.0]), np.array([3, 4], np.int32)
    made = Requests.checked(sent, tokens, tokens)
    assert made.arrival_s is sent
    assert made.prompt_tokens is tokens
