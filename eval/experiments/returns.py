"""What an agent earns in an environment: returns of every heuristic and of random actions, and the score made of them.

score = (return - return of random actions) / (return of the best heuristic - return of random actions)

so 0 is chance and 1 the best rule of the list.  All agents play the same episodes: episode s is the first one after
``reset(seed=s)``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import llmsched_env  # noqa: F401  (registers the environments)
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.options import page_parser_for
from llmsched.eval.cli.progress import Progress
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.policies import Bound
from llmsched.policies.routing import BoundRouting, parse_routings
from llmsched_env.simulation.compiled_calls import call_compiled

BOTH = "static,dynamic,multibin,longest-queue,sjf,edf,least-slack,aimd,random,network"
ROUTER = "LLMSchedRouter-v0"
"""The id whose policies are routings."""

AGENTS = {
    "LLMSched-v0": f"{BOTH},ppo,multibin-fixed,timeout,window,priority,adaptive-memory",
    "LLMSchedContinuous-v0": f"{BOTH},vllm,fcfs",
    ROUTER: "round-robin,least-outstanding,join-shortest-kv,power-of-two,prefix-affinity,prefix-load",
}
"""Policies by environment id."""

NO_HEURISTICS = ("network", "ppo", "rollout")
"""Policies that are trained, or that look ahead: the score of 1 is that of a rule."""

EPISODES = 64
RANDOM = "random actions"
"""A valid action drawn uniformly at every decision."""

MEASURES = ("return", "missed", "mean_e2e_s")

Play = Callable[[Any, int], tuple[float, float, float]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("returns").add_argument
    add("--env", choices=AGENTS, default="LLMSched-v0", help="the environment (default LLMSched-v0)")
    add("--policies", default="", metavar="LIST", help="the policies that play (default: those of the published table)")
    parser.set_defaults(seeds=EPISODES)


def play_out(env: Any, seed: int, answer: Callable[[], Any]) -> tuple[float, float, float]:
    """(return, share of requests that missed the SLO, mean time in the system) of one episode."""
    env.reset(seed=seed)
    earned, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, info = env.step(answer())
        earned, over = earned + reward, terminated or truncated
    metrics = info["episode_metrics"]
    return earned, 1.0 - metrics["slo_attainment"], metrics["mean_e2e_s"]


def play_at_random(env: Any, seed: int) -> tuple[float, float, float]:
    """An episode of valid actions drawn uniformly."""
    env.action_space.seed(seed)
    return play_out(env, seed, lambda: env.action_space.sample(env.sample_mask()))


def player(env_id: str, bound: Bound) -> tuple[Any, Play]:
    """The environment with what the policy sets, and an episode under the policy."""
    ready = bound.ready(gym.make(env_id).unwrapped.config)  # type: ignore[attr-defined]
    env: Any = gym.make(env_id, simulation=ready.config).unwrapped

    def play(env: Any, seed: int) -> tuple[float, float, float]:
        memory, rng = np.zeros(max(1, ready.memory_size)), np.random.default_rng(seed)

        def answer() -> tuple[int, int]:
            choice, size = call_compiled(ready.decide, env.record, ready.params, memory, rng)
            return choice, min(size, ready.config.max_batch)

        return play_out(env, seed, answer)

    return env, play


def routing_player(bound: BoundRouting) -> tuple[Any, Play]:
    """The environment of the router, and an episode under the routing policy."""
    if bound.call(np.random.default_rng(0)) is None:
        raise ValueError(f"{bound.label} names no server: give another routing.")
    env: Any = gym.make(ROUTER).unwrapped

    def play(env: Any, seed: int) -> tuple[float, float, float]:
        memory, rng = np.zeros(max(1, bound.policy.memory)), np.random.default_rng(seed)
        return play_out(env, seed, lambda: call_compiled(bound.policy.route, env.record, bound.params, memory, rng))

    return env, play


def player_of(env_id: str, bound: Bound | BoundRouting) -> tuple[Any, Play]:
    """The environment and an episode of it, for a scheduler or a routing."""
    return routing_player(bound) if isinstance(bound, BoundRouting) else player(env_id, bound)


def returns(
    env_id: str, policies: Sequence[Bound | BoundRouting], seeds: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """(episodes, MEASURES) of random actions and of every policy."""
    players: dict[str, tuple[Any, Play]] = {RANDOM: (gym.make(env_id).unwrapped, play_at_random)}
    players |= {bound.label: player_of(env_id, bound) for bound in policies}
    found = {}
    with Progress("playing", len(players)) as progress:
        for name, (env, play) in players.items():
            found[name] = np.array([play(env, seed) for seed in seeds])
            progress.step(name)
    return found


def score(values: NDArray[np.float64], chance: NDArray[np.float64], best: NDArray[np.float64]) -> Interval:
    """The score of returns ``values`` (episodes,); its interval is that of the mean return, scaled."""
    span = float(best.mean() - chance.mean())
    found = interval(list(values))
    half = None if found.half is None else found.half / span
    return Interval((found.mean - float(chance.mean())) / span, half)


def find(session: Session) -> Findings:
    """Play all episodes."""
    options = session.options
    given = options.policies or AGENTS[options.env]
    policies: Sequence[Bound | BoundRouting]
    policies = parse_routings(given) if options.env == ROUTER else session.policies(given)
    if any(bound.label == RANDOM for bound in policies):
        raise ValueError(f"label={RANDOM} is what random actions are called here: give another label.")
    found = returns(options.env, policies, list(session.seeds))
    heuristics = [bound.label for bound in policies if bound.policy.name not in NO_HEURISTICS]
    chance = found[RANDOM][:, 0]
    best = max(heuristics, key=lambda name: found[name][:, 0].mean(), default=RANDOM)
    rows: list[dict[str, Any]] = []
    for name in sorted(found, key=lambda name: -found[name][:, 0].mean()):
        row: dict[str, Any] = {"policy": name}
        row |= {key: interval(list(found[name][:, place])) for place, key in enumerate(MEASURES)}
        row["score"] = score(found[name][:, 0], chance, found[best][:, 0]) if best != RANDOM else None
        rows.append(row)
    columns = [
        Column("policy", "agent"),
        Column("return", "return", "", 4, best=1),
        Column("score", "score", "", 2, best=1),
        Column("missed", "missed the SLO", "%", 1, 100.0, best=-1),
        Column("mean_e2e_s", "mean E2E", "s", 2, best=-1),
    ]
    note = f"score: 0 is {RANDOM}, 1 is {best}, the best heuristic; reward_threshold of the id is its return."
    env: Any = gym.make(options.env).unwrapped
    weights = ", ".join(f"{name} {weight:g}" for name, weight in env.options.weights.items() if weight)
    heading = (
        f"returns: {options.env}, {len(session.seeds)} episodes from seed {session.seeds[0]}, default arguments\n"
        f"weights of the reward: {weights}; ± 95 % interval (Student t over episodes)"
    )
    about = {"env": options.env, "best_heuristic": best}
    return Findings(heading, [Table("returns", "Returns of an episode", columns, rows, note)], {}, about)


EXPERIMENT = Experiment(
    "returns.py",
    "What random actions and every heuristic earn in an environment, and the score made of it.",
    add_options,
    find,
    page_parser_for,
)
