"""Routing policies: the rules of the engine and their compiled twins, users' files, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched.policies.routing import names, parse_routing, parse_routings
from llmsched_env.config import SLO, Continuous, SimConfig
from llmsched_env.core.constants import ROUTINGS
from llmsched_env.servers import parse_servers
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.workload import Workload

PROFILE = "h100-80gb_llama2-70b_tp4"


def run(routing: str, *, asked: bool, age: float = 0.0, cache: str = "off", servers: int = 3) -> RunResult:
    """600 requests under `vllm` and a routing: as a rule of the engine, or ``asked``."""
    continuous = Continuous(routing="pull" if asked else routing, load_age_s=age, prefix_cache=cache)
    slos = (SLO(e2e_s=20.0),)
    config = SimConfig(
        parse_servers(PROFILE, servers, 60_000), engine="continuous", max_batch=64, slos=slos, continuous=continuous
    )
    bound = parse("fcfs").routed(parse_routing(routing) if asked else None)
    ready = bound.ready(config)
    arrivals = Workload("azure-conv", requests=600, rate=20.0, shared_prefix="30:1500:1").draw(1, "test")
    rng = np.random.default_rng(5)
    return simulate(ready.config, arrivals, ready.decide, route=ready.route(rng), **ready.options)


@pytest.mark.parametrize("routing", [name for name in ROUTINGS if name != "asked"])
def test_rules_of_the_engine_and_policies_of_the_same_name_agree(routing: str) -> None:
    """Bit for bit, with fresh loads."""
    assert run(routing, asked=True).requests.tobytes() == run(routing, asked=False).requests.tobytes()


@pytest.mark.parametrize("routing", names())
def test_every_request_ends_and_equal_seeds_give_equal_bytes(routing: str) -> None:
    """Conservation under every routing, with a prefix cache and old loads."""
    first, second = (run(routing, asked=True, age=0.7, cache="on") for _ in range(2))
    assert first.requests.tobytes() == second.requests.tobytes()
    assert first.lane["counts"]["completed"] == 600
    assert (first.requests["completion"] >= first.requests["first_token"]).all()
    used = set(first.requests["server"].tolist())
    assert used == {0, 1, 2}


def test_affinity_finds_more_than_chance() -> None:
    """30 prefixes on three small caches: who follows the prefix finds more of it."""
    found = {}
    for routing in ("round-robin", "prefix-affinity", "prefix-load"):
        result = run(routing, asked=True, cache="on")
        assert result.cached_tokens is not None
        found[routing] = int(result.cached_tokens.sum())
    assert found["prefix-affinity"] > 1.2 * found["round-robin"]
    assert found["prefix-load"] > found["round-robin"]


def test_old_loads_hurt_who_follows_them_blindly(tmp_path: Path) -> None:
    """A router that reads only the queues sends everybody to the same server until the next reading."""
    (tmp_path / "blind.py").write_text(
        "def blind(record, params, memory, rng):\n"
        "    best = 0\n"
        "    for s in range(record.num_servers):\n"
        "        if record.waiting[s] + record.running[s] < record.waiting[best] + record.running[best]:\n"
        "            best = s\n"
        "    return best\n"
    )
    blind = f"{tmp_path}/blind.py:blind"
    waits = [_mean_e2e(run(blind, asked=True, age=age)) for age in (0.0, 10.0)]
    own_count = _mean_e2e(run("least-outstanding", asked=True, age=10.0))
    assert waits[1] > 1.1 * waits[0]
    assert own_count < waits[1]


def _mean_e2e(result: RunResult) -> float:
    return float(np.mean(result.requests["completion"] - result.requests["arrival"]))


def test_a_server_that_does_not_exist_ends_the_run(tmp_path: Path) -> None:
    """One line that says which servers there are."""
    (tmp_path / "bad.py").write_text("def bad(record, params, memory, rng):\n    return record.num_servers\n")
    with pytest.raises(ValueError, match=r"answered server 3: servers are 0 to 2"):
        run(f"{tmp_path}/bad.py:bad", asked=True)


def test_a_prompt_goes_to_a_server_that_can_hold_it() -> None:
    """The next one by number; the answer is counted."""
    servers = (*parse_servers(PROFILE, 1, 400), *parse_servers(PROFILE, 1, 60_000))
    config = SimConfig(servers, engine="continuous", slos=(SLO(e2e_s=20.0),))
    bound = parse("fcfs").routed(parse_routing("join-shortest-kv"))
    ready = bound.ready(config)
    arrivals = Workload("azure-conv", requests=200, rate=1.0).draw(1, "test")
    route = ready.route(np.random.default_rng(0))
    assert route is not None
    result = simulate(ready.config, arrivals, ready.decide, route=route, **ready.options)
    long = arrivals.prompt_tokens > 400
    assert long.any() and (result.requests["server"][long] == 1).all()
    assert result.lane["counts"]["empty_choices"] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nearest", "'nearest' is not a routing"),
        ("power-of-tow", "Did you mean power-of-two"),
        ("", "empty entry"),
        ("power-of-two,,pull", "empty entry"),
        ("pull,pull", "given 2 times"),
        ("prefix-load:weight=2", "no parameter 'weight=2'"),
        ("prefix-load:prefix=-1", "prefix"),
        ("prefix-load:prefix=1:prefix=2", "given twice"),
        ("nosuch.py:mine", "nosuch.py"),
    ],
)
def test_what_is_no_routing_is_refused(text: str, said: str) -> None:
    """In one line."""
    with pytest.raises(ValueError) as caught:
        parse_routings(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(record):\n    return 0\n", "is not a routing"),
        ("def f(record, params, memory, rng):\n    return 0.5\n", "whole number"),
        ("def f(record, params, memory, rng):\n    return record.nonsense\n", "no field 'nonsense'"),
        ("def f(record, params, memory, rng):\n    return 0, 1\n", "cannot be compiled"),
        (
            "import numpy as np\ndef f(record, params, memory, rng):\n    return np.random.randint(2)\n",
            "global generator",
        ),
    ],
)
def test_functions_that_are_no_routing_are_refused(tmp_path: Path, code: str, said: str) -> None:
    """In one line, before anything runs."""
    (tmp_path / "my.py").write_text(code)
    with pytest.raises(ValueError) as caught:
        parse_routing(f"{tmp_path}/my.py:f")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_index_is_an_error_and_no_memory_fault(tmp_path: Path) -> None:
    """Indices of a user's routing are checked, as those of a scheduler."""
    (tmp_path / "my.py").write_text(
        "def f(record, params, memory, rng):\n    return record.waiting[record.number + 1000]\n"
    )
    with pytest.raises(ValueError, match="IndexError"):
        run(f"{tmp_path}/my.py:f", asked=True)


def test_routing_needs_its_engine() -> None:
    """The engine batch shares its queues; one that is asked needs somebody to ask."""
    config = SimConfig(parse_servers(PROFILE, 2), slos=(SLO(e2e_s=20.0),))
    with pytest.raises(ValueError, match="belongs to the engine 'continuous'"):
        parse("static").routed(parse_routing("power-of-two")).ready(config)
    config = SimConfig(parse_servers(PROFILE, 2), engine="continuous", continuous=Continuous(routing="asked"))
    ready = parse("fcfs").ready(config)
    arrivals = Workload("azure-conv", requests=10, rate=1.0).draw(1, "test")
    with pytest.raises(ValueError, match="needs a routing policy"):
        simulate(ready.config, arrivals, ready.decide, **ready.options)
