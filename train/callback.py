"""What a training run leaves behind while it goes: curves, evaluations, the best weights, a state to resume from."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed

from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.many_systems import BANDS, Fleet
from llmsched.train.validation import Run, Score, by_load, scored
from llmsched_env.envs.spaces import ladder

STATE = "resume.pt"
SMALL = 8
"""Largest size of a small batch, in the decision mix."""


class Keeper(BaseCallback):
    """Saves, evaluates and logs between rollouts.

    Before every rollout all generators are seeded by (seed, number of the rollout): a state to resume from needs no
    generator's state, and a run that was killed goes on bit for bit from the last one kept (same thread count).
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], runs: Sequence[Run], arguments: Any) -> None:
        super().__init__()
        self.folder, self.about, self.runs, self.arguments = folder, about, runs, arguments
        self.rollouts = 0
        self.best: float = np.inf
        self._ended: list[tuple[int, float, float]] = []  # band, misses, return of every episode that ended
        self._began, self._first = time.monotonic(), 0

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        model = self.model
        return {
            "policy": model.policy.state_dict(),
            "optimizer": model.policy.optimizer.state_dict(),
            "steps": model.num_timesteps,
            "updates": model._n_updates,  # type: ignore[attr-defined]
            "rollouts": self.rollouts,
            "best": self.best,
            "lanes": pickle.dumps(model.env),
            "observations": model._last_obs,
            "starts": model._last_episode_starts,
        }

    def _on_training_start(self) -> None:
        self._began, self._first = time.monotonic(), self.num_timesteps

    def _on_rollout_start(self) -> None:
        arguments, model = self.arguments, self.model
        self._show()
        if self.rollouts % arguments.evaluate_every == 0:
            self.evaluate()
        if self.rollouts % arguments.save_every == 0:
            self.save()
        set_random_seed(1_000_003 * arguments.seed + self.rollouts)
        for parameter in model.policy.scorer.parameters():
            parameter.requires_grad_(self.num_timesteps >= arguments.critic_steps)
        self.rollouts += 1

    def _on_step(self) -> bool:
        fleet = self.training_env
        assert isinstance(fleet, Fleet)
        for lane in np.flatnonzero(self.locals["dones"]).tolist():
            info = self.locals["infos"][lane]
            missed = 1.0 - info["episode_metrics"]["slo_attainment"]
            self._ended.append((int(fleet.bands[lane]), missed, info["episode"]["r"]))
        return True

    def _on_rollout_end(self) -> None:
        record = self.logger.record
        if self._ended:
            record("episodes/return", float(np.mean([r for *_, r in self._ended])))
        for band, (low, high) in enumerate(BANDS):
            missed = [m for b, m, _ in self._ended if b == band]
            if missed:
                record(f"episodes/misses_load_{low:g}_to_{high:g}", float(np.mean(missed)))
        self._ended.clear()
        actions = self.model.rollout_buffer.actions.astype(np.int64).ravel()  # type: ignore[attr-defined]
        for name, share in decision_mix(actions, self.model.policy.scorer.bins, self.model.policy.scorer.max_batch):
            record(f"decisions/{name}", share)

    def evaluate(self) -> Score:
        """Score the weights as they stand against the heuristics; keep them when they are the best so far."""
        arrays = self.model.policy.scorer.arrays()
        found = scored(self.runs, LAYOUTS["batch"].pack(arrays))
        self.logger.record("validation/log_ratio", found.mean)
        for load, (misses, best) in by_load(found).items():
            self.logger.record(f"validation/misses_load_{load:g}", misses)
            self.logger.record(f"validation/best_heuristic_load_{load:g}", best)
        better = found.mean < self.best
        if better:
            self.best = found.mean
            trained = {"steps": self.num_timesteps, "validation_log_ratio": found.mean}
            checkpoint.save(self.folder / "best", arrays, {**self.about, **trained})
        line = f"{self.num_timesteps:>10,} steps  log ratio of misses to the best heuristic's {found.mean:+.3f}"
        print(line + "  (best so far)" * better, file=sys.stderr)
        return found

    def save(self) -> None:
        """Write the state to resume from; a kill leaves the one before or this one, whole."""
        fresh = self.folder / (STATE + ".new")
        torch.save(self.state(), fresh)
        os.replace(fresh, self.folder / STATE)

    def finish(self) -> None:
        """The last evaluation, and the weights as they are."""
        self.evaluate()
        trained = {"steps": self.num_timesteps}
        checkpoint.save(self.folder / "last", self.model.policy.scorer.arrays(), {**self.about, **trained})
        self.logger.dump(self.num_timesteps)

    def _show(self) -> None:
        done, total = self.num_timesteps, self.arguments.steps
        spent = time.monotonic() - self._began
        if done > self._first and sys.stderr.isatty():
            rate = (done - self._first) / spent
            left = (total - done) / rate
            print(f"\r{done:,} of {total:,} steps, {rate:,.0f} a second, {left:.0f} s left ", end="", file=sys.stderr)


def decision_mix(actions: NDArray[np.int64], bins: int, max_batch: int) -> list[tuple[str, float]]:
    """Shares by name: of all decisions those that wait, of the others those of `any`, and those whose size is the
    target, at most SMALL, or larger."""
    sizes = ladder(max_batch)
    chosen = actions[actions > 0] - 1
    choice, rung = chosen // len(sizes), chosen % len(sizes)
    target = rung == len(sizes) - 1
    small = ~target & (np.asarray(sizes)[rung] <= SMALL)
    parts = {"target": target, "any": choice == bins, f"size_to_{SMALL}": small, "size_above": ~target & ~small}
    shares = [(name, float(np.mean(part)) if len(chosen) else 0.0) for name, part in parts.items()]
    return [("wait", float(np.mean(actions == 0))), *shares]


def restore(model: OnPolicyAlgorithm, keeper: Keeper, folder: Path) -> None:
    """Put ``model`` and ``keeper`` where the run in ``folder`` was last saved.  The file is this run's own: it is
    unpickled."""
    path = folder / STATE
    if not path.is_file():
        raise SystemExit(f"{path}: the run was killed before its first state was kept; start it anew.")
    state = torch.load(path, weights_only=False)
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps, model._n_updates = state["steps"], state["updates"]  # type: ignore[attr-defined]
    model.env = pickle.loads(state["lanes"])
    model._last_obs, model._last_episode_starts = state["observations"], state["starts"]
    keeper.rollouts, keeper.best = state["rollouts"], state["best"]
