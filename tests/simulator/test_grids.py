"""The form `table`: points by hand, between them and beyond, and every way in which grids can be wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from llmsched_env.core.constants import LAW_NUMBERS
from llmsched_env.grids import FIELDS, Grids, grid_from_points
from llmsched_env.profiles import Profile, load_profile

GRIDS = Grids(
    batch=(1, 4, 8),
    context=(16, 32, 64),
    decode_ms=((1.0, 2.0, 3.0), (2.0, 3.0, 5.0), (4.0, 3.5, 9.0)),
    tokens=(1, 128, 512),
    prefill_ms=(3.0, 4.0, 9.0),
)
TABLE = Profile("t", "table", {"p2": 1e-4}, math.inf, grids=GRIDS)


@pytest.mark.parametrize(
    ("batch", "context", "ms"),
    [
        (1, 16, 1.0),
        (1, 24, 1.5),
        (2, 16, 4 / 3),
        (4, 64, 5.0),
        (4, 96, 7.0),  # beyond the last context: as between the last two
        (12, 64, 13.0),  # beyond the last batch
        (1, 0, 1.0),  # before the first context
        (8, 32, 4.0),  # a time that falls with the context is raised
    ],
)
def test_a_decode_step_by_hand(batch, context, ms):
    assert TABLE.decode_step_ms(batch, batch * context) == pytest.approx(ms)


def test_prompts_by_hand():
    assert TABLE.prefill_ms([128]) == pytest.approx(4.0 + 1e-4 * 128**2)
    assert TABLE.prefill_ms([64, 64]) == pytest.approx(4.0 + 2e-4 * 64**2)
    assert TABLE.mixed_ms(4, 64, 124, 0) == pytest.approx(2.0 + 4.0 - (3.0 + 3 / 127))


def test_one_point_of_each_is_a_constant():
    one = replace(TABLE, grids=Grids((4,), (16,), ((2.0,),), (1,), (3.0,)), coefficients={"p2": 0.0})
    assert one.decode_step_ms(1, 5) == one.decode_step_ms(9, 900) == 2.0
    assert one.prefill_ms([700]) == 3.0


def document(**changes: Any) -> dict[str, Any]:
    """A profile as JSON; ``changes`` to its grids, "absent" takes a field away."""
    grids = {key: value for key, value in (GRIDS.as_json() | changes).items() if value != "absent"}
    return {
        "schema": "llmsched-profile/v1",
        "name": "mine",
        "form": "table",
        "units": "ms; tokens",
        "coefficients": {"p2": 0.0},
        "kv_tokens": None,
        "grids": grids,
    }


def test_a_file_gives_the_same_profile(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document()))
    assert load_profile(path).grids == GRIDS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: "absent"}, rf"grids.{name} is missing: the form table needs batch, context") for name in FIELDS),
        ({"rows": []}, r"grids.rows is not known"),
        ({"batch": [1, 4, 4]}, r"grids.batch has 4 twice"),
        ({"batch": [1, 8, 4]}, r"grids.batch is not ascending at 8, 4"),
        ({"context": []}, r"grids.context is empty"),
        ({"context": [16, "a", 64]}, r"grids.context has 'a': give numbers of at least 0"),
        ({"tokens": [0, 128, 512]}, r"grids.tokens has 0: give numbers of at least 1"),
        ({"decode_ms": [[1, 2, 3], [2, 3], [4, 4, 9]]}, r"decode_ms at batch 4 has 2 times for 3 contexts"),
        ({"decode_ms": [[1, 2, 3], [2, None, 5], [4, 4, 9]]}, r"decode_ms at batch 4 has None: give ms above 0"),
        ({"decode_ms": [[1, 2, 3], [2, 3, 5]]}, r"grids.decode_ms has 2 rows for 3 batches"),
        ({"decode_ms": [1, 2, 3]}, r"grids.decode_ms is not a list of lists"),
        ({"prefill_ms": [3, 0, 9]}, r"grids.prefill_ms has 0: give ms above 0"),
        ({"prefill_ms": [3, -4, 9]}, r"grids.prefill_ms has -4: give ms above 0"),
        ({"tokens": list(range(1, 400)), "prefill_ms": [1.0] * 399}, rf"at most {LAW_NUMBERS - 4} are possible"),
    ],
)
def test_bad_grids_are_refused_in_one_line(tmp_path, changes, message):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document(**changes)))
    with pytest.raises(ValueError, match=message) as caught:
        load_profile(path)
    assert "\n" not in str(caught.value)


def test_grids_and_the_form_belong_together():
    with pytest.raises(ValueError, match="belong together"):
        replace(TABLE, grids=None)


def test_points_become_a_grid_and_a_hole_is_named():
    points = {(1.0, 16.0): 1.0, (1.0, 32.0): 2.0, (4.0, 16.0): 3.0}
    with pytest.raises(ValueError, match=r"no time at batch 4, context 32"):
        grid_from_points(points)
    assert grid_from_points(points | {(4.0, 32.0): 4.0}) == ([1.0, 4.0], [16.0, 32.0], [[1.0, 2.0], [3.0, 4.0]])
