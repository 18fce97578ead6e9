"""Requests that are built directly are checked: what reaches the compiled simulator always fits together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched_env.config import SimConfig
from llmsched_env.requests import MAX_TOKENS, Requests
from llmsched_env.servers import parse_servers
from llmsched_env.simulation.simulator import simulate

GOOD: dict[str, Any] = {
    "arrival_s": [0.0, 1.0, 2.0],
    "prompt_tokens": [5, 6, 7],
    "output_tokens": [1, 2, 3],
    "predicted_tokens": [1, 2, 3],
    "slo_class": [0, 0, 0],
}
TOKENS = ("prompt_tokens", "output_tokens", "predicted_tokens")
BAD_TIMES = ([0, np.nan, 2], [0, np.inf, np.inf], [-1, 0, 1], [0, 2, 1], [0, 1, np.nan], [np.nan, 1, 2])
BAD_TIMES += ("abc", ["0", "1", "2"], [[0, 1, 2]], [0, 1, 10**400], [True, True, True], None, [0, 1j, 2])  # type: ignore[assignment]
BAD_TOKENS: tuple[Any, ...] = ([1, 2], [1, 2, 3, 4], [0, 1, 2], [1, -1, 2], [1, 2, MAX_TOKENS + 1], [1, 2.5, 3])
BAD_TOKENS += (
    [1, np.nan, 3],
    [1, np.inf, 3],
    [1, 2, 10**400],
    [True, True, True],
    ["1", "2", "3"],
    [[1, 2, 3]],
    3,
    None,
)
BAD_CLASSES: tuple[Any, ...] = ([0, -1, 0], [0, 128, 0], [0, 256, 0], [0, 0.5, 0], [0, 0], [False, False, False], None)

CASES = [("arrival_s", value) for value in BAD_TIMES]
CASES += [(name, value) for name in TOKENS for value in BAD_TOKENS]
CASES += [("slo_class", value) for value in BAD_CLASSES]


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_what_does_not_fit_together_is_refused(name: str, value: Any) -> None:
    """Every column, by its name, in one short line."""
    with pytest.raises(ValueError, match=name) as caught:
        Requests(**{**GOOD, name: value})
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_what_fits_runs_whatever_its_dtype() -> None:
    """Lists, floats that are whole, other widths, arrays that are read-only or not contiguous."""
    config, policy = SimConfig(parse_servers("ideal")), parse("static")
    expected = simulate(config, Requests(**GOOD), policy.decide, params=[1.0]).requests
    for kind in (np.int64, np.float64, np.uint16):
        columns: dict[str, Any] = {name: np.array(value, kind) for name, value in GOOD.items()}
        columns["prompt_tokens"] = np.repeat(columns["prompt_tokens"], 2)[::2]
        columns["output_tokens"].flags.writeable = False
        found = simulate(config, Requests(**columns), policy.decide, params=[1.0]).requests
        assert found.tobytes() == expected.tobytes()
    exact = Requests(**GOOD)
    again = Requests(exact.arrival_s, exact.prompt_tokens, exact.output_tokens, exact.predicted_tokens, exact.slo_class)
    assert again.arrival_s is exact.arrival_s and again.slo_class is exact.slo_class  # nothing is copied


def test_no_requests_are_refused_where_some_are_needed() -> None:
    """`checked` needs a row."""
    with pytest.raises(ValueError, match="at least one"):
        Requests.checked([], [], [])
