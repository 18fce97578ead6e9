"""A run of train/ppo_grouped.py: iterations of playing and learning, evaluations, and a state to continue from."""

from __future__ import annotations

import dataclasses
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmsched.policies import parse
from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.grouped.cloning import clone, watch
from llmsched.train.grouped.groups import Played, make_groups
from llmsched.train.grouped.learner import Learner
from llmsched.train.grouped.recording import MAX_BINS
from llmsched.train.grouped.settings import GroupedSettings
from llmsched.train.network import Scorer, initialise
from llmsched.train.systems import TRAINING_SEED, TrainingSystem
from llmsched.train.validation import WeightScore, make_runs, misses_by_load, score_weights
from llmsched_env.commands.terminal import say, show
from llmsched_env.files.reading import read_bytes
from llmsched_env.files.writing import write_bytes, write_text

STATE, CURVE = "state.pt", "curve.csv"
COLUMNS = ("misses", "entropy", "clipped", "kl", "unexplained", "spread", "decisions")

OUTPUTS = ("out", "straight", "wait_out", "wait_straight", "wait_offset")
"""Arrays of the network that a temperature divides: those that the scores are linear in."""

LOADS = (0.6, 1.6)
"""Range of the loads that are trained on."""

LAST_RATE = 0.1
"""Factor of the learning rate at the end."""

SAVE_EVERY = 10
"""Iterations between two states."""

CLONE_SEED = 5_000_000
"""Added to the first arrival seed of what the teacher plays."""

SEEDS = 10_000_000
"""Arrival seeds that a run may use; runs with other seeds use others."""


def start_scorer(settings: GroupedSettings, max_batch: int) -> Scorer:
    """The actor at the start."""
    torch.manual_seed(settings.seed)
    if settings.start == "rule":
        scorer = Scorer(MAX_BINS, max_batch, settings.hidden)
        initialise(scorer)
        arrays = scorer.arrays()
    else:
        found = checkpoint.load(settings.start)
        if found.engine != "batch":
            raise ValueError(f"{settings.start}: engine {found.engine}: give a checkpoint of the engine batch.")
        scorer, arrays = Scorer(MAX_BINS, max_batch, found.hidden), dict(found.arrays)
    scorer.load_arrays({n: a / settings.temperature if n in OUTPUTS else a for n, a in arrays.items()})
    return scorer


class Training:
    """A training run; ``command`` is what repeats it."""

    def __init__(self, settings: GroupedSettings, systems: list[TrainingSystem], command: str) -> None:
        self.settings, self.folder, self.command = settings, Path(settings.out), command
        self.learner = Learner(start_scorer(settings, systems[0].max_batch), settings.update)
        self.policy = parse(settings.queues)
        self.groups = make_groups(systems, settings.requests, self.policy)
        self.validation = make_runs(systems, range(1), settings.evaluation_requests)
        self.done, self.best, self.spent_s = 0, np.inf, 0.0
        self.curve: list[str] = []
        if (self.folder / STATE).exists():
            self._restore()
        elif settings.teacher != "none":
            self._clone()

    @property
    def weights(self) -> NDArray[np.float64]:
        """The packed weights of the actor (P,)."""
        return LAYOUTS["batch"].pack(self.learner.scorer.arrays())

    def run(self) -> None:
        """Train until all iterations are done; then write ``last`` and say how good ``best`` is."""
        settings, began, before = self.settings, time.process_time(), self.spent_s
        while self.done < settings.iterations:
            if self.done % settings.evaluate_every == 0:
                self._evaluate()
            rng = np.random.default_rng([settings.seed, self.done])
            torch.manual_seed(1_000_003 * settings.seed + self.done)
            found = self._iterate(rng)
            self.done += 1
            self.spent_s = before + time.process_time() - began
            self.curve.append(",".join([str(self.done), *(f"{found[name]:.6g}" for name in COLUMNS), ""]))
            if self.done % SAVE_EVERY == 0 or self.done == settings.iterations:
                self._save()
        self._evaluate()
        self._keep("last", {})
        self._save()
        for load, (misses, best) in misses_by_load(self._score(self._best_weights)).items():
            show(f"load {load:g}: {100 * misses:.2f} % missed, {100 * best:.2f} % by the best heuristic of every run")

    def _score(self, weights: NDArray[np.float64]) -> WeightScore:
        return score_weights(self.validation, weights, self.policy)

    @property
    def _best_weights(self) -> NDArray[np.float64]:
        return checkpoint.load(self.folder / "best").packed

    def _clone(self) -> None:
        """Let the actor learn what the teacher does; ``cloned`` is what came of it."""
        settings, scorer, began = self.settings, self.learner.scorer, time.process_time()
        parts = watch(parse(settings.teacher), self.groups, scorer, CLONE_SEED + settings.seed * SEEDS)
        agreed = clone(scorer, parts, settings.clone, np.random.default_rng(settings.seed))
        scorer.load_arrays({n: a * settings.sharpen if n in OUTPUTS else a for n, a in scorer.arrays().items()})
        self.spent_s += time.process_time() - began
        found = self._score(self.weights).mean
        self._keep("cloned", {"agreement": round(agreed, 4), "validation_log_ratio": found})
        say(f"{settings.teacher} cloned: {100 * agreed:.1f} % of {sum(x.count for x in parts):,} decisions agree")

    def _iterate(self, rng: np.random.Generator) -> dict[str, float]:
        """Play the groups of an iteration and learn from them."""
        settings, weights = self.settings, self.weights
        played: list[Played] = []
        for place in rng.permutation(len(self.groups))[: settings.groups].tolist():
            load = float(rng.uniform(*LOADS))
            seed = TRAINING_SEED + settings.seed * SEEDS + self.done * len(self.groups) + place
            played += self.groups[place].play(load, seed, weights, settings.runs, settings.horizon, rng)
        left = 1.0 - self.done / settings.iterations
        found = {"misses": 0.0, **dict.fromkeys(COLUMNS, 0.0)}
        if played:
            actor = self.done >= settings.critic_iterations
            found |= self.learner.update(played, rng, actor=actor, rate=max(LAST_RATE, left))
            found["misses"] = float(np.mean([run.misses for run in played]))
        return {**found, "decisions": float(sum(len(run.actions) for run in played))}

    def _evaluate(self) -> None:
        """Score the weights on validation arrivals; keep them when they are the best so far."""
        found = self._score(self.weights).mean
        better = found < self.best
        if better:
            self.best = found
            self._keep("best", {"validation_log_ratio": found})
        if self.curve and self.curve[-1].endswith(","):
            self.curve[-1] += f"{found:.6g}"
        say(f"iteration {self.done}: log ratio {found:+.4f}{'  (best so far)' * better}, {self.spent_s:.0f} s of CPU")

    def _keep(self, name: str, more: dict[str, Any]) -> None:
        settings = self.settings
        about = {"command": self.command, "arguments": dataclasses.asdict(settings), "iteration": self.done}
        about |= {"cpu_s": round(self.spent_s), **more}
        checkpoint.save(self.folder / name, self.learner.scorer.arrays(), about)

    def _save(self) -> None:
        """Write the state and the curve."""
        content, learner = io.BytesIO(), self.learner
        state = {"done": self.done, "best": float(self.best), "spent_s": self.spent_s, "curve": self.curve}
        torch.save({**state, "learner": learner.state()}, content)
        write_bytes(self.folder / STATE, content.getvalue())
        head = ",".join(["iteration", *COLUMNS, "validation"])
        write_text(self.folder / CURVE, "\n".join([head, *self.curve, ""]))

    def _restore(self) -> None:
        """Go back to the last state."""
        path = self.folder / STATE
        try:
            state = torch.load(io.BytesIO(read_bytes(path)), weights_only=True)
            self.learner.put_back(state["learner"])
            self.done, self.best, self.spent_s = int(state["done"]), float(state["best"]), float(state["spent_s"])
            self.curve = [str(row) for row in state["curve"]]
        except Exception as error:  # whatever a damaged file makes of itself
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path}: no state of this program ({type(error).__name__}: {reason}): begin anew."
            ) from None
