"""Writes what docs/results/returns.md says of PPO from nothing, from docs/results/first_agent.json beside it.

python docs/tools/make_first_agent.py            writes the table and the figure
python docs/tools/make_first_agent.py --check    says whether the table is up to date (exit status 1: it is not)
python docs/tools/make_first_agent.py --run      trains first: examples/train_ppo.py with five seeds, some minutes each

--run goes on after a stop: a seed that is in the file is not trained again (delete the file to begin anew).  The
agents are judged on the episodes of the table of returns.  The time is the CPU time of training alone, which runs in
one thread: what it takes on a machine with a free core.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from made.page import with_part, write_or_check

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "train_ppo.py"
PAGE = ROOT / "docs" / "results" / "returns.md"
RESULTS = PAGE.with_name("first_agent.json")
PICTURE = ROOT / "docs" / "images" / "first_agent.png"
BEGIN, END = "<!-- first agent -->\n", "<!-- end of first agent -->\n"

SEEDS = range(5)
EVERY = 250_000
"""Steps between two evaluations."""

RIVALS = ("multibin", "longest-queue")
"""Rows of the table of returns that the agents are compared with."""

TRAINING, SEED = re.compile(r"model\.learn\(([\d_]+)\)"), "seed=0)\nmodel.learn"
"""Places of the example that a run changes: its steps are watched, and its seed is another one."""


def returns_of_rules() -> dict[str, float]:
    """The returns of RIVALS in the first table of the page."""
    text = PAGE.read_text(encoding="utf-8")
    return {name: float(re.search(rf"^{name} +(-[\d.]+) ±", text, re.M)[1]) for name in RIVALS}  # type: ignore[index]


def train(seed: int, until: float = math.inf) -> list[dict[str, float]]:
    """Steps, CPU seconds of training and mean return at every evaluation of one seed, up to the step ``until``."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    from llmsched.train.sb3_vec_env import make_sb3_vec_env

    found: list[dict[str, float]] = []

    class Watch(BaseCallback):
        """Evaluates between rollouts; the clock stands still meanwhile."""

        def __init__(self) -> None:
            super().__init__()
            self.began = time.process_time()

        def look(self) -> None:
            """Evaluate now."""
            seconds = time.process_time() - self.began
            judged = VecNormalize(make_sb3_vec_env(64, seed=0), training=False, norm_reward=False)
            judged.obs_rms = self.model.get_vec_normalize_env().obs_rms  # type: ignore[union-attr]
            mean, _ = evaluate_policy(self.model, judged, n_eval_episodes=64)
            found.append({"steps": self.num_timesteps, "seconds": round(seconds, 1), "return": round(float(mean), 4)})
            print(f"seed {seed}: {found[-1]}", file=sys.stderr, flush=True)
            self.began = time.process_time() - seconds

        def _on_step(self) -> bool:
            return self.num_timesteps < until

        def _on_rollout_start(self) -> None:
            if self.num_timesteps >= EVERY * len(found):
                self.look()

        def _on_training_end(self) -> None:
            self.look()

    text = EXAMPLE.read_text(encoding="utf-8").split("\nmodel.save(")[0]
    changed = TRAINING.sub(r"model.learn(\1, watch)", text.replace(SEED, f"seed={seed})\nmodel.learn"))
    assert (seed == 0 or changed != TRAINING.sub(r"model.learn(\1, watch)", text)) and "watch)" in changed
    exec(compile(changed, EXAMPLE.name, "exec"), {"watch": Watch()})
    return found


def run_all() -> None:
    """Train every seed that is missing, and keep what came out."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for seed in SEEDS:
        if str(seed) not in kept:
            kept[str(seed)] = train(seed)
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def seconds_to(curve: Sequence[Mapping[str, float]], bar: float) -> float | None:
    """The training time after which a curve first reaches ``bar``; None: never."""
    return next((point["seconds"] for point in curve if point["return"] >= bar), None)


def table() -> str:
    """A row per seed, and their medians."""
    curves, bars = json.loads(RESULTS.read_text(encoding="utf-8")), returns_of_rules()
    heads = ["seed", "steps", "training, CPU s", "return at the end"]
    heads += [f"{name} ({bars[name]:.4f}) reached after, CPU s" for name in RIVALS]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    rows = []
    for seed, curve in curves.items():
        end, times = curve[-1], [seconds_to(curve, bars[name]) for name in RIVALS]
        rows.append((end["seconds"], end["return"], *(float("inf") if value is None else value for value in times)))
        shown = ["never" if value is None else f"{value:.0f}" for value in times]
        lines.append(
            f"| {seed} | {end['steps']:,} | {end['seconds']:.0f} | {end['return']:.4f} | {' | '.join(shown)} |"
        )
    middle = [median(column) for column in zip(*rows, strict=True)]
    ends = ["never" if value == float("inf") else f"{value:.0f}" for value in middle[2:]]
    lines.append(f"| **median** | | {middle[0]:.0f} | **{middle[1]:.4f}** | {' | '.join(ends)} |")
    return "\n".join(lines) + "\n"


def figure() -> Figure:
    """Return by training time, a line a seed, with the rules as dashed lines."""
    from llmsched.eval.figures.style import MUTED, colour_of, sheet

    curves, bars = json.loads(RESULTS.read_text(encoding="utf-8")), returns_of_rules()
    drawn = sheet(
        3.6, "PPO in ten lines", "Mean return of the 64 episodes of the table by training time, a line a seed"
    )
    axes = drawn.subplots()
    for row, (seed, curve) in enumerate(curves.items()):
        x, y = [point["seconds"] for point in curve], [point["return"] for point in curve]
        axes.plot(x, y, color=colour_of(row), marker=".", label=f"seed {seed}")
    for name, value in bars.items():
        axes.axhline(value, color=MUTED, linestyle="--", linewidth=1)
        above = name == "longest-queue"
        axes.text(0.0, value, name, ha="left", va="bottom" if above else "top", color=MUTED)
    axes.set_xlabel("training time, CPU s (one thread)")
    axes.set_ylabel("return")
    axes.set_ylim(-0.2, 0.0)
    axes.legend(loc="lower right", ncols=3, frameon=False)
    return drawn


def main(arguments: Sequence[str]) -> int:
    """Write the table and the figure, check the table, or train first; returns the exit code."""
    if list(arguments) not in ([], ["--check"], ["--run"]):
        print(__doc__, file=sys.stderr)
        return 2
    if list(arguments) == ["--run"]:
        run_all()
    check = list(arguments) == ["--check"]
    if not check:
        from llmsched.eval.figures.style import draw_to

        draw_to(PICTURE, figure, dpi=110)
    return write_or_check(PAGE, with_part(PAGE, BEGIN, END, table()), check)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
