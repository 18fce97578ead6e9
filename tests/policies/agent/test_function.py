"""A Python function of the environment's observation as a policy: ``agent.py:act``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from llmsched.policies import Bound, parse
from llmsched.policies.agent import checkpoint
from tests.faults.tools import run
from tests.policies.agent.tools import SCENARIOS, check_equal, compiled, drive, plain_action, random_agent, requests_of
from tests.policies.tools import run as run_policy

NETWORK = """
from llmsched.policies.agent import checkpoint
from tests.policies.agent.tools import plain_action
{constant}
AGENT = checkpoint.load({path!r})
def act(observation, mask):
    "A network, in Python"
    assert observation.dtype == "float32" and mask.dtype == bool
    return plain_action(AGENT, observation, mask){first}
"""
DEF = "def act(observation, mask):\n    "


def write(folder: Path, text: str) -> str:
    """The policy ``act`` of a file with this text."""
    (folder / "agent.py").write_text(text)
    return f"{folder / 'agent.py'}:act"


def parsed(text: str) -> Bound:
    """The policy, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parse(text)


@pytest.mark.parametrize("action", ["multidiscrete", "ladder"])
@pytest.mark.parametrize("scenario", ["batch", "batch, overdue", "continuous, prefix cache"])
@pytest.mark.filterwarnings("ignore:act is a Python function")
def test_a_function_decides_as_on_the_environment(scenario: str, action: str, tmp_path: Path) -> None:
    """And as the same network, compiled."""
    config, requests = SCENARIOS[scenario][0], requests_of(scenario)
    path, bins = str(tmp_path / "mine"), config.queueing.num_bins
    agent = random_agent(Path(path), config, action)
    text = NETWORK.format(path=path, constant=f"ACTION = {action!r}", first="[0]" * (action == "ladder"))

    def act(observation: object, mask: object) -> object:
        found = plain_action(agent, observation, mask)  # type: ignore[arg-type]
        return found[0] if action == "ladder" else found

    env = drive(act, config, requests, action, bins)
    check_equal(env, compiled(write(tmp_path, text), config, requests, env))
    check_equal(env, compiled(f"agent:path={path}", config, requests, env))
    assert checkpoint.load(path).face == agent.face


def test_it_warns_that_it_is_slow(tmp_path: Path) -> None:
    name = write(tmp_path, f"{DEF}'''Bin 0.'''\n    return 0, 1\n")
    with pytest.warns(UserWarning, match="act is a Python function, asked at every decision: many times slower"):
        bound = parse(name)
    assert bound.policy.summary == "Bin 0" and bound.label == name and bound.policy is parsed(name).policy
    config = SCENARIOS["batch"][0]
    done = run_policy(bound, config, requests_of("batch"))
    assert done.counts["completed"] == 150


BAD = {
    "an error": ("return 0, unknown", "NameError: name 'unknown' is not defined (agent.py line 2)"),
    "an error far away": ("import json\n    return json.loads('x')", "(agent.py line 3)"),
    "the end of the program": ("raise SystemExit(0)", "SystemExit: 0 (agent.py line 2)"),
    "nothing": ("pass", "act answered None, where an action of 'multidiscrete' is 0 to 4 x 0 to 128"),
    "one number": ("return 1", "act answered 1,"),
    "three numbers": ("return [1, 1, 1]", "act answered [1, 1, 1],"),
    "a bin that is not": ("return 5, 1", "act answered (5, 1),"),
    "a size that is not": ("return 0, 129", "act answered (0, 129),"),
    "below zero": ("return -1, 1", "act answered (-1, 1),"),
    "a fraction": ("return 0, 1.5", "act answered (0, 1.5),"),
    "no number": ("return 0, float('nan')", "act answered (0, nan),"),
    "a truth value": ("return 0, True", "act answered (0, True),"),
    "a text": ("return '01'", "act answered '01',"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_fails_ends_the_run_with_a_line(kind: str, tmp_path: Path) -> None:
    """Exit code 2; the warning stands before it."""
    body, said = BAD[kind]
    ended = run("--policies", write(tmp_path, f"{DEF}{body}\n"), "--bins", "4", "--max-batch", "128")
    assert ended.code == 2 and ended.out == "" and "Traceback" not in ended.err, ended
    assert said in ended.err and "the policy failed at t = " in ended.err, ended


def test_an_action_space_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="act: ACTION = 'discrete' is not known: give one of multidiscrete, ladder"):
        parse(write(tmp_path, f"ACTION = 'discrete'\n{DEF}return 0, 1\n"))


@pytest.mark.parametrize("head", ["def act(observation)", "def act(mask, observation)", "def act(obs, mask)"])
def test_other_signatures_are_refused_with_both_forms(head: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"give def act\(record, params, memory, rng\), or def act\(observation, mask\)"
    ):
        parse(write(tmp_path, f"{head}:\n    return 0, 1\n"))


def test_its_runs_are_never_taken_from_an_earlier_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may read a file that has changed since."""
    from llmsched.eval.runs import cache_key

    (tmp_path / "size.txt").write_text("1")
    file = str(tmp_path / "size.txt")
    name = write(tmp_path, f"{DEF}return 4, int(open({file!r}).read())\n")
    options = ("--policies", name, "--bins", "4", "--out", tmp_path / "out", "--json")
    first = run(*options)
    assert first.code == 0, first
    (tmp_path / "size.txt").write_text("4")
    monkeypatch.setattr(cache_key, "PROCESS", "another")
    second = run(*options)
    sizes = [json.loads(ended.out)["policies"][0]["mean_batch_size"] for ended in (first, second)]
    assert sizes[0] < sizes[1]
