"""What a training run writes while it runs: curves, evaluations, the best weights, a state to resume from."""

from __future__ import annotations

import io
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
from llmsched.train.many_systems import LOAD_BANDS, ManySystems
from llmsched.train.validation import ScoredRun, WeightScore, misses_by_load, score_weights
from llmsched_env.commands.terminal import say
from llmsched_env.envs.spaces import ladder
from llmsched_env.files.reading import read_bytes
from llmsched_env.files.showing import shortened
from llmsched_env.files.writing import write_bytes

STATE = "resume.pt"
SMALL_BATCH = 8
"""Largest size that counts as a small batch in the decision mix."""


class TrainingCallback(BaseCallback):
    """Saves, evaluates and logs between rollouts.

    Before every rollout all random generators are seeded by (seed, number of the rollout).  So the state to resume from
    holds no generator, and a run that was killed continues bit for bit from its last state (with as many threads).
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], runs: Sequence[ScoredRun], arguments: Any) -> None:
        super().__init__()
        self.folder, self.about, self.runs, self.arguments = folder, about, runs, arguments
        self.rollouts = 0
        self.best: float = np.inf
        self._ended: list[tuple[int, float, float]] = []  # band, misses, return of every episode that ended
        self._began, self._first = time.monotonic(), 0

    def state(self) -> dict[str, Any]:
        """The state that `restore` takes."""
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
        systems = self.training_env
        assert isinstance(systems, ManySystems)
        for lane in np.flatnonzero(self.locals["dones"]).tolist():
            info = self.locals["infos"][lane]
            missed = 1.0 - info["episode_metrics"]["slo_attainment"]
            self._ended.append((int(systems.bands[lane]), missed, info["episode"]["r"]))
        return True

    def _on_rollout_end(self) -> None:
        record = self.logger.record
        if self._ended:
            record("episodes/return", float(np.mean([r for *_, r in self._ended])))
        for band, (low, high) in enumerate(LOAD_BANDS):
            missed = [m for b, m, _ in self._ended if b == band]
            if missed:
                record(f"episodes/misses_load_{low:g}_to_{high:g}", float(np.mean(missed)))
        self._ended.clear()
        actions = self.model.rollout_buffer.actions.astype(np.int64).ravel()  # type: ignore[attr-defined]
        for name, share in decision_mix(actions, self.model.policy.scorer.bins, self.model.policy.scorer.max_batch):
            record(f"decisions/{name}", share)

    def evaluate(self) -> WeightScore:
        """Score the present weights against the heuristics; save them when they are the best so far."""
        arrays = self.model.policy.scorer.arrays()
        found = score_weights(self.runs, LAYOUTS["batch"].pack(arrays))
        self.logger.record("validation/log_ratio", found.mean)
        for load, (misses, best) in misses_by_load(found).items():
            self.logger.record(f"validation/misses_load_{load:g}", misses)
            self.logger.record(f"validation/best_heuristic_load_{load:g}", best)
        better = found.mean < self.best
        if better:
            self.best = found.mean
            trained = {"steps": self.num_timesteps, "validation_log_ratio": found.mean}
            checkpoint.save(self.folder / "best", arrays, {**self.about, **trained})
        line = f"{self.num_timesteps:>10,} steps  log ratio of misses to the best heuristic's {found.mean:+.3f}"
        left = f"  {self._left_s:.0f} s left" if 0 < self._left_s < np.inf else ""
        say(line + "  (best so far)" * better + left)
        return found

    def save(self) -> None:
        """Write the state to resume from; a kill in between leaves the previous state whole."""
        content = io.BytesIO()
        torch.save(self.state(), content)
        write_bytes(self.folder / STATE, content.getvalue())

    def finish(self) -> None:
        """Evaluate once more, and save the present weights as ``last``."""
        self.evaluate()
        trained = {"steps": self.num_timesteps}
        checkpoint.save(self.folder / "last", self.model.policy.scorer.arrays(), {**self.about, **trained})
        self.logger.dump(self.num_timesteps)

    def _show(self) -> None:
        done, total, left = self.num_timesteps, self.arguments.steps, self._left_s
        if left < np.inf and sys.stderr.isatty():
            rate = (total - done) / left if left else 0.0
            print(f"\r{done:,} of {total:,} steps, {rate:,.0f} a second, {left:.0f} s left ", end="", file=sys.stderr)

    @property
    def _left_s(self) -> float:
        """Time left in seconds, at the rate of the steps made so far; inf before the first."""
        made = self.num_timesteps - self._first
        if made <= 0:
            return float("inf")
        return (time.monotonic() - self._began) / made * max(0, self.arguments.steps - self.num_timesteps)


def decision_mix(actions: NDArray[np.int64], bins: int, max_batch: int) -> list[tuple[str, float]]:
    """Shares by name of ladder actions (N,).

    ``wait`` is the share of all decisions; the others are shares of those that do not wait: ``any`` of the choice
    `any`, ``target`` of the controllers' target, ``size_to_...`` and ``size_above`` of smaller and larger other sizes.
    """
    sizes = ladder(max_batch)
    launched = actions[actions > 0] - 1
    choice, rung = launched // len(sizes), launched % len(sizes)
    target = rung == len(sizes) - 1
    small = ~target & (np.asarray(sizes)[rung] <= SMALL_BATCH)
    parts = {"target": target, "any": choice == bins, f"size_to_{SMALL_BATCH}": small, "size_above": ~target & ~small}
    shares = [(name, float(np.mean(part)) if len(launched) else 0.0) for name, part in parts.items()]
    return [("wait", float(np.mean(actions == 0))), *shares]


def restore(model: OnPolicyAlgorithm, callback: TrainingCallback, folder: Path) -> None:
    """Put ``model`` and ``callback`` back to the last state saved in ``folder``.

    The file is unpickled, which runs whatever is in it: the caller was told so by ``--unpickle``.
    """
    path = folder / STATE
    if not path.is_file():
        raise ValueError(f"{path}: the run was killed before it saved a state: begin anew with another --out.")
    try:
        state = torch.load(io.BytesIO(read_bytes(path)), weights_only=False)
        put_back(model, callback, state)
    except Exception as error:  # whatever a damaged pickle makes of itself
        reason = shortened(" ".join(str(error).split()), 200)
        raise ValueError(f"{path}: no state of train/ppo.py ({type(error).__name__}: {reason}): begin anew.") from None


def put_back(model: OnPolicyAlgorithm, callback: TrainingCallback, state: Mapping[str, Any]) -> None:
    """Give ``model`` and ``callback`` what `TrainingCallback.state` took from them."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps, model._n_updates = state["steps"], state["updates"]  # type: ignore[attr-defined]
    model.env = pickle.loads(state["lanes"])
    model._last_obs, model._last_episode_starts = state["observations"], state["starts"]
    callback.rollouts, callback.best = state["rollouts"], state["best"]
