"""Returns of agents: what is paid is what a compiled run reports, and the two fixed points of the score."""

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.seeding import np_random

from llmsched.eval.experiments import returns
from llmsched.policies import parse
from llmsched.policies.routing import parse_routing
from llmsched_env.envs.episodes import Episodes
from llmsched_env.envs.options import parse_options
from llmsched_env.envs.router import router_options
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.simulator import simulate

ID = "LLMSched-v0"


@pytest.mark.parametrize("name", ["multibin", "static"])
def test_an_episode_pays_the_misses_and_the_latency_of_a_compiled_run(name: str) -> None:
    """The same requests under the same policy, once step by step and once in one call."""
    options, seed = parse_options({}), 5
    ready = parse(name).ready(options.simulation())
    requests = Episodes(options).draw(np_random(seed)[0])
    found = summarize(simulate(ready.config, requests, ready.decide, **ready.options))
    env, play = returns.player(ID, parse(name))
    earned, missed, mean_s = play(env, seed)
    assert missed == pytest.approx(1.0 - found["slo_attainment"], abs=1e-12)
    client_s = ready.config.client_offset_s  # what a client sees later; the environment counts time in the system
    assert mean_s == pytest.approx(found["mean_e2el_ms"] / 1000.0 - client_s, rel=1e-9)
    assert earned == pytest.approx(-missed - 0.01 * mean_s, rel=1e-9)


def test_a_router_is_paid_as_a_compiled_run_of_its_routing_reports() -> None:
    """The same requests under the same routing, once step by step and once in one call."""
    seed, bound = 3, parse_routing("prefix-affinity")
    env, play = returns.routing_player(bound)
    earned, missed, mean_s = play(env, seed)
    options = parse_options(router_options({}))
    config = options.simulation()
    fcfs, requests = parse("fcfs"), Episodes(options).draw(np_random(seed)[0])
    call = bound.call(np.random.default_rng(0))
    found = summarize(simulate(config, requests, fcfs.decide, **fcfs.ready(config).options, route=call))
    assert missed == pytest.approx(1.0 - found["slo_attainment"], abs=1e-12)
    assert earned == pytest.approx(-missed - 0.01 * mean_s, rel=1e-9)


def test_what_names_no_server_is_no_agent_of_the_router() -> None:
    """`pull` lets the servers take requests themselves."""
    with pytest.raises(ValueError, match="pull names no server"):
        returns.routing_player(parse_routing("pull"))


def test_random_actions_score_0_and_the_best_heuristic_1() -> None:
    """By definition, and in between what lies in between."""
    chance, best = np.array([-0.3, -0.1]), np.array([-0.1, -0.05])
    assert returns.score(chance, chance, best).mean == pytest.approx(0.0)
    assert returns.score(best, chance, best).mean == pytest.approx(1.0)
    assert returns.score((chance + best) / 2, chance, best).mean == pytest.approx(0.5)


def test_the_command_ranks_by_return(capsys: pytest.CaptureFixture[str]) -> None:
    """The best heuristic is named, `network` is no heuristic, random actions play too."""
    code = returns.EXPERIMENT.main(["--policies", "static,longest-queue,network", "--seeds", "6"])
    out = capsys.readouterr().out
    rows = [line.split("  ")[0] for line in out.splitlines() if "±" in line and not line.startswith("weights")]
    assert code == 0 and set(rows) == {"static", "longest-queue", "network", returns.RANDOM}
    assert "1 is longest-queue" in " ".join(out.split())


@pytest.mark.parametrize("env_id", returns.AGENTS)
def test_the_threshold_of_an_id_is_the_published_return_of_its_best_heuristic(env_id: str) -> None:
    """As docs/results/returns.md shows it, which is made again by its command."""
    page = (Path(__file__).parents[3] / "docs" / "results" / "returns.md").read_text(encoding="utf-8")
    table = page.split(f"\n## {env_id}\n")[1].split("-->")[1]
    best = re.search(r"1 is ([a-z-]+), the best heuristic", " ".join(table.split()))
    assert best is not None
    row = re.search(rf"^{best[1]} +(-?[0-9.]+) ±", table, re.MULTILINE)
    assert row is not None and gym.spec(env_id).reward_threshold == float(row[1])
