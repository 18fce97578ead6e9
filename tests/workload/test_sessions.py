"""Sessions: recorded ones that are read, drawn ones, think times, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from llmsched_env.workload import Trace, Workload, load_generator, read_trace
from llmsched_env.workload.sessions.turns import SessionLaw

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
AGENTIC = TRACES / "agentic"
recorded = pytest.mark.skipif(not AGENTIC.is_dir(), reason="the recorded sessions lie beside the project, not in it")


def turn(t: float, size: int, out: int, ids: list[int], **more: Any) -> dict[str, Any]:
    """A request of an agent."""
    return {"t": t, "type": "n", "in": size, "out": out, "hash_ids": ids} | more


SESSION = [
    turn(0.0, 130, 5, [1, 2], api_time=4.0, think_time=0.0),
    turn(7.0, 192, 6, [1, 2, 3], api_time=2.5, think_time=3.0),
    turn(8.0, 100, 7, [9], think_time=4.0),  # beside the one before it; nobody knows for how long
    turn(30.0, 260, 8, [1, 2, 3], api_time=1.0),
]


def agent(path: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    """A session as published."""
    document = {"id": path.name, "block_size": 64, "hash_id_scope": "local", "requests": rows} | more
    path.write_bytes(
        gzip.compress(json.dumps(document).encode()) if path.suffix == ".gz" else json.dumps(document).encode()
    )
    return path


def chats(path: Path, *rows: tuple[Any, Any, float]) -> Path:
    """A file of Bailian: (chat_id, parent_chat_id, time in s)."""
    names = ("chat_id", "parent_chat_id", "timestamp")
    lines = (dict(zip(names, row, strict=True)) | {"input_length": 20, "output_length": 5, "turn": 1} for row in rows)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_request_of_an_agent_waits_for_the_last_answer_before_it(tmp_path: Path) -> None:
    """What overlaps stays so; a recorded think time counts, else the time since the answer."""
    trace = read_trace(agent(tmp_path / "one.json.gz", SESSION))
    assert trace.links is not None
    assert trace.links.parent.tolist() == [-1, 0, 0, 1]
    assert trace.links.think_s.tolist() == [0.0, 3.0, 4.0, 20.5]
    assert trace.prompt_tokens.tolist() == [130, 192, 100, 260]
    assert trace.output_tokens.tolist() == [5, 6, 7, 8]


def test_hashes_of_agents_are_of_whole_blocks_and_of_one_session(tmp_path: Path) -> None:
    """Blocks of 64 tokens, rounded down; a shorter list leaves the rest unknown; equal ids of two sessions differ."""
    for name in ("a.json", "b.json"):
        agent(tmp_path / name, SESSION)
    trace = read_trace(tmp_path)
    assert trace.contents is not None
    assert len(trace) == 8
    assert trace.contents.hash_tokens == 64
    first = trace.contents.rows(np.flatnonzero(trace.prompt_tokens == 192))
    assert first.hashed_tokens.tolist() == [192, 192]
    assert len(set(first.hashes.tolist())) == 6
    assert trace.contents.rows(np.flatnonzero(trace.prompt_tokens == 260)).hashed_tokens.tolist() == [192, 192]
    assert len(set(trace.contents.hashes.tolist())) == 8


def test_chats_of_bailian_are_trees(tmp_path: Path) -> None:
    """They are followed when asked for: the time since the request before counts as think time."""
    path = chats(tmp_path / "chats.jsonl", (7, -1, 0.0), (8, 7, 2.0), (9, 7, 3.5), (10, -1, 4.0), (11, 9, 9.0))
    trace = read_trace(path)
    open_ = Workload(trace).draw(0)
    assert open_.parent is None
    requests = Workload(trace, sessions=2).draw(0)
    assert requests.parent is not None
    assert requests.think_s is not None
    thinks = sorted(requests.think_s[requests.parent >= 0].tolist())
    assert thinks == [2.0, 3.5, 5.5]
    assert sorted(np.bincount(requests.session)[[0, *np.flatnonzero(requests.parent < 0)[1:]]].tolist()) == [1, 4]


BURSTGPT = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def burstgpt(path: Path, *rows: tuple[Any, Any, Any]) -> Path:
    """A newer file of BurstGPT: (time, session, time to the answer)."""
    lines = (f"{time},{session},{took},GPT-4,20,5,25,API log\n" for time, session, took in rows)
    path.write_text(BURSTGPT + "".join(lines))
    return path


def test_sessions_of_burstgpt_are_chains(tmp_path: Path) -> None:
    """A request waits for the latest answer of its session; what overlaps, and what has no name, comes by the clock."""
    rows = ((0, "a", 2.5), (1, "b", 9), (4, "a", 3), (5, "a", 1), (6, "", 1), (7, "", 1), (12, "b", ""), (13, "b", 1))
    trace = read_trace(burstgpt(tmp_path / "log.csv", *rows))
    assert trace.links is not None
    assert trace.links.parent.tolist() == [-1, -1, 0, 0, -1, -1, 1, 1]
    assert trace.links.think_s.tolist() == [0.0, 0.0, 1.5, 2.5, 0.0, 0.0, 2.0, 3.0]
    assert Workload(trace).draw(0).parent is None
    followed = Workload(trace, sessions=4).draw(0)
    assert len(followed) == 8
    assert len(set(followed.session.tolist())) == 4


def test_a_negative_time_to_the_answer_is_refused_where_it_matters(tmp_path: Path) -> None:
    """By their clock the rows are replayed."""
    trace = read_trace(burstgpt(tmp_path / "log.csv", (0, "a", 1), (1, "a", -3), (2, "a", 1)))
    assert len(Workload(trace).draw(0)) == 3
    with pytest.raises(ValueError, match=r"row 2: a time to the answer of -3 s is not allowed"):
        Workload(trace, concurrency=1)


BROKEN: dict[str, tuple[list[tuple[Any, Any, float]], str]] = {
    "gap": ([(1, -1, 0.0), (2, 5, 1.0)], "row 2: parent_chat_id=5 is no chat_id of the file: its session has a gap"),
    "cycle": ([(1, 2, 1.0), (2, 1, 1.0), (3, -1, 2.0)], "row 1: its chain of parent_chat_id is a cycle"),
    "itself": ([(0, -1, 0.0), (1, 1, 1.0)], "row 2: its chain of parent_chat_id is a cycle"),
    "backwards": ([(1, -1, 5.0), (2, 1, 1.0)], "row 2: it comes 4 s before its parent_chat_id=1"),
    "twice": ([(1, -1, 0.0), (1, -1, 1.0)], "row 2: chat_id=1 is that of row 1 too"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_chats_that_cannot_be_followed(tmp_path: Path, case: str) -> None:
    """By their clock they are replayed; as sessions they are refused in one line."""
    rows, said = BROKEN[case]
    trace = read_trace(chats(tmp_path / "chats.jsonl", *rows))
    assert len(Workload(trace).draw(0)) == len(rows)
    for asked in ({"sessions": 2}, {"concurrency": 2}, {"think": "exp:3"}):
        with pytest.raises(ValueError) as caught:
            Workload(trace, **asked)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


BAD_AGENTS: dict[str, tuple[dict[str, Any], str]] = {
    "too many ids": ({"hash_ids": [1, 2, 3]}, "row 2: 3 hash_ids for a prompt of 191 tokens: a block has 64 tokens"),
    "negative think time": ({"think_time": -2.0}, "request 2: think_time=-2.0 is not allowed"),
    "negative answer": ({"api_time": -2.0}, "request 2: api_time=-2.0 is not allowed"),
    "back in time": ({"t": -1.0}, "request 2: t=-1.0 is not allowed"),
    "no prompt": ({"in": None}, "request 2: in=None is not allowed"),
    "half a token": ({"out": 2.5}, "request 2: out=2.5 is not allowed: give a whole number"),
    "no number": ({"t": "soon"}, "request 2: t=soon is not allowed"),
}


@pytest.mark.parametrize("case", BAD_AGENTS)
def test_bad_sessions_of_agents(tmp_path: Path, case: str) -> None:
    """One line that names the file and the request."""
    change, said = BAD_AGENTS[case]
    rows = [SESSION[0], turn(7.0, 191, 6, [1, 2]) | change]
    with pytest.raises(ValueError) as caught:
        read_trace(agent(tmp_path / "bad.json", rows))
    assert said in str(caught.value)
    assert "bad.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_session_that_goes_back_has_a_gap(tmp_path: Path) -> None:
    """Requests are in order of time."""
    with pytest.raises(ValueError, match="request 2: t=7 is before the request before it, 30: a gap in the session"):
        read_trace(agent(tmp_path / "bad.json", [turn(30.0, 10, 1, []), turn(7.0, 10, 1, [])]))


@pytest.mark.parametrize("block", [0, 40, -64, "a", None, 8])
def test_bad_blocks_of_agents(tmp_path: Path, block: Any) -> None:
    """Blocks are multiples of 16 tokens."""
    with pytest.raises(ValueError, match="block_size"):
        read_trace(agent(tmp_path / "bad.json", SESSION, block_size=block))


def test_a_folder_without_sessions_is_refused(tmp_path: Path) -> None:
    """Nothing in it, or something else."""
    with pytest.raises(ValueError, match="a folder without sessions"):
        read_trace(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.json: not a session of an agent"):
        read_trace(tmp_path)


def test_a_row_without_tokens_leaves_its_session_whole(tmp_path: Path) -> None:
    """What waited for it waits for the one before."""
    rows = [SESSION[0], turn(7.0, 0, 0, [], think_time=3.0, api_time=1.0), turn(10.0, 99, 1, [], think_time=2.0)]
    trace = read_trace(agent(tmp_path / "one.json", rows))
    assert trace.links is not None
    assert trace.links.parent.tolist() == [-1, 0]
    assert trace.links.think_s.tolist() == [0.0, 5.0]


@recorded
def test_all_recorded_sessions() -> None:
    """Every request of the 60 sessions is there; in a closed loop and open, session by session."""
    trace = read_trace(AGENTIC)
    assert len(trace) == 927
    for asked in ({"concurrency": 7}, {"rate": 1.0}):
        requests = Workload(trace, **asked).draw(0)
        assert len(requests) == 927
        assert len(set(requests.session.tolist())) == 60
        assert sorted(requests.prompt_tokens.tolist()) == sorted(trace.prompt_tokens.tolist())
        assert requests.parent is not None
        assert (requests.parent < np.arange(927)).all()
    twice = Workload(trace, concurrency=7, sessions=120).draw(0)
    assert len(twice) == 2 * 927
    assert twice.hashes is not None
    assert requests.hashes is not None
    assert len(set(twice.hashes.tolist())) == 2 * len(set(requests.hashes.tolist()))
    assert len(Workload(trace, concurrency=7, requests=100).draw(0)) == 100


@recorded
def test_the_generator_is_near_the_recorded_sessions() -> None:
    """Turns, first prompts, growth, outputs and think times: KS distances as stated, and those of the prompts."""
    trace = read_trace(AGENTIC)
    real, drawn = (
        columns(Workload(trace, concurrency=1)),
        columns(Workload("coding-agent", concurrency=1, sessions=4_000)),
    )
    stated = load_generator("coding-agent").meta["validation"]
    for name in ("turns", "first_prompt", "growth", "output", "think_s"):
        found = stats.ks_2samp(real[name], drawn[name]).statistic
        assert found < stated[f"ks_{name}"] + 1.63 / np.sqrt(len(drawn[name])), name
    assert stats.ks_2samp(real["prompt"], drawn["prompt"]).statistic < stated["ks_prompt"] + 0.02
    assert drawn["prompt"].mean() / real["prompt"].mean() - 1 == pytest.approx(stated["mean_err_prompt"], abs=0.03)


def columns(workload: Workload) -> dict[str, np.ndarray]:
    """What sessions are made of; think times in whole seconds, as they are recorded."""
    requests = workload.draw(0)
    assert requests.parent is not None
    assert requests.think_s is not None
    child = np.flatnonzero(requests.parent >= 0)
    first = np.flatnonzero(requests.parent < 0)
    prompt = requests.prompt_tokens.astype(int)
    follows = child[requests.session[child - 1] == requests.session[child]]
    return {
        "turns": np.bincount(requests.session)[first],
        "first_prompt": prompt[first],
        "growth": prompt[follows] - prompt[follows - 1],
        "output": requests.output_tokens,
        "prompt": prompt,
        "think_s": np.rint(requests.think_s[child]),
    }


def test_a_drawn_prompt_continues_the_one_before_it() -> None:
    """Hashes of a session are one text, which shares nothing with other sessions; prompts only grow."""
    requests = Workload("coding-agent", sessions=20, concurrency=3).draw(0)
    assert requests.hashes is not None
    assert requests.hashed_tokens is not None
    assert requests.parent is not None
    offsets = requests.hash_offsets
    seen: dict[int, list[int]] = {}
    for row in range(len(requests)):
        own = requests.hashes[offsets[row] : offsets[row + 1]].tolist()
        session = int(requests.session[row])
        before = seen.get(session, [])
        shared = min(len(before), len(own))
        assert own[:shared] == before[:shared]
        seen[session] = max(own, before, key=len)
        if requests.parent[row] >= 0:
            assert requests.prompt_tokens[row] >= requests.prompt_tokens[requests.parent[row]]
        follows = row + 1 < len(requests) and requests.session[row + 1] == session
        known, prompt = int(requests.hashed_tokens[row]), int(requests.prompt_tokens[row])
        answered = prompt + int(requests.output_tokens[row])
        assert known == (min(answered, int(requests.prompt_tokens[row + 1])) if follows else prompt)
    texts = [name for text in seen.values() for name in text]
    assert len(set(texts)) == len(texts)


def test_sessions_start_at_the_asked_rate() -> None:
    """Requests per second, whatever the mean number of turns."""
    requests = Workload("coding-agent", requests=20_000, rate=4.0).draw(0)
    starts = requests.arrival_s[requests.session == np.arange(len(requests))]
    assert 20_000 / starts[-1] == pytest.approx(4.0, rel=0.1)
    law = load_generator("coding-agent").lengths
    assert isinstance(law, SessionLaw)
    assert law.mean_turns == pytest.approx(15.5, rel=0.1)


@pytest.mark.parametrize(
    ("law", "mean", "spread"),
    [("none", 0.0, 0.0), ("fixed:3", 3.0, 0.0), ("exp:2", 2.0, 2.0), ("lognormal:2:0.5", 2.0 * np.exp(0.125), 1.208)],
)
def test_think_times_have_the_law_that_is_asked_for(law: str, mean: float, spread: float) -> None:
    """In sessions and in a closed loop of single requests; the same for every policy."""
    for source in ("coding-agent", "azure-conv"):
        workload = Workload(source, requests=5_000, concurrency=3, think=law)
        think = workload.draw(0).think_s
        assert think is not None
        assert think.mean() == pytest.approx(mean, rel=0.06)
        assert think.std() == pytest.approx(spread, rel=0.12)
        np.testing.assert_array_equal(workload.draw(0).think_s, think)


def simple() -> Trace:
    """A trace without sessions."""
    return Trace(np.arange(20.0), np.full(20, 9, np.int32), np.full(20, 9, np.int32))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "zero clients": ({"concurrency": 0}, "concurrency=0 is not allowed: give a whole number from 1"),
    "a rate": ({"concurrency": 2, "rate": 3.0}, "rate=3 does not go with concurrency=2"),
    "a multiple": ({"concurrency": 2, "rate_scale": 3.0}, "rate_scale=3 does not go with concurrency"),
    "bursts": ({"concurrency": 2, "burstiness": 1.0}, "burstiness=1 does not go with concurrency=2"),
    "a duration": ({"concurrency": 2, "duration_s": 9.0}, "duration_s=9 does not go with concurrency=2"),
    "think": ({"think": "exp:3"}, "think='exp:3': azure-conv has no sessions"),
    "sessions": ({"sessions": 3}, "sessions=3: azure-conv has no sessions"),
    "no law": ({"concurrency": 2, "think": "uniform:3"}, "think='uniform:3' is not allowed: give recorded, none"),
    "negative": ({"concurrency": 2, "think": "exp:-3"}, "think='exp:-3' is not allowed"),
    "too many": ({"concurrency": 2, "think": "exp:3:4"}, "think='exp:3:4' is not allowed"),
    "no number": ({"concurrency": 2, "think": "fixed:x"}, "think='fixed:x' is not allowed"),
    "prefix": ({"source": "coding-agent", "shared_prefix": "2:16"}, "shared_prefix='2:16': sessions keep"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused(case: str) -> None:
    """One line that names the option."""
    asked, said = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        Workload(**({"requests": 10} | asked))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_closed_loop_of_a_plain_trace_sends_its_rows() -> None:
    """Its clock is not used, and there is no rate to ask for."""
    workload = Workload(simple(), concurrency=2, think="fixed:1")
    requests = workload.draw(0)
    assert (requests.arrival_s == 0).all()
    assert len(requests) == 20
    with pytest.raises(ValueError, match="a closed loop has no rate"):
        workload.mean_rate  # noqa: B018
