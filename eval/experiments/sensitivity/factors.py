"""The factors of a sensitivity study, each with a low and a high value, and the scenario at any point between."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import variant, with_targets


@dataclass(frozen=True)
class Factor:
    """A quantity from ``low`` to ``high``, on a log scale where both are above 0; ``form`` writes it."""

    name: str
    title: str
    low: float
    high: float
    form: str = "{:g}"
    whole: bool = False

    def at(self, share: float) -> float:
        """The value at ``share`` (0 to 1) of the way from low to high."""
        value = (
            self.low * (self.high / self.low) ** share if self.low > 0 else self.low + share * (self.high - self.low)
        )
        return float(round(value)) if self.whole else value

    def show(self, value: float) -> str:
        """``value`` in words."""
        return self.form.format(value)


FACTORS = (
    Factor("rate", "arrival rate", 0.75, 1.33, "x {:.3g}"),
    Factor("targets", "latency targets", 0.67, 1.5, "x {:.3g}"),
    Factor("burstiness", "squared CV of gaps", 0.25, 4.0),
    Factor("sigma", "prediction error, sigma", 0.0, 1.0),
    Factor("memory", "KV memory", 0.1, 2.0, "x {:.3g}"),
    Factor("bins", "bins", 2, 8, whole=True),
    Factor("tbt", "controllers' D", 0.7, 2.0, "x {:.3g}"),
    Factor("eps", "band around D", 0.25, 4.0, "x {:.3g}"),
    Factor("alpha", "controllers' alpha", 4.0, 64.0),
    Factor("delta", "controllers' delta", 1.0, 16.0),
    Factor("eps-memory", "memory overflow, eps_M", 0.01, 0.2),
    Factor("ema", "weight of the newest batch", 0.05, 0.8),
)
"""Plausible ranges of a deployment; multiples (x) are of the scenario's own value."""

NAMES = tuple(factor.name for factor in FACTORS)


def factors_named(names: Sequence[str]) -> list[Factor]:
    """The factors of these names, in the order of FACTORS."""
    return [factor for factor in FACTORS if factor.name in names]


def scenario_at(options: argparse.Namespace, base: Scenario, point: Mapping[str, float]) -> Scenario:
    """The scenario of ``options`` with the factors at ``point``; ``base``: the same without any change."""
    changes: dict[str, Any] = {"rate": base.workload.mean_rate * point.get("rate", 1.0)}
    if "burstiness" in point:
        changes["burstiness"] = 1.0 / point["burstiness"]  # shape of gamma gaps: the squared CV is its inverse
    if "sigma" in point:
        changes["predictor"] = f"noisy:{point['sigma']:.6g}"
    if "memory" in point:
        changes["kv_tokens"] = float(round(min(server.eta for server in base.config.servers) * point["memory"]))
    if "bins" in point:
        changes["bins"] = int(point["bins"])
    changed = with_targets(variant(options, **changes), point.get("targets", 1.0))
    controller = base.config.controller
    controller = replace(
        controller,
        tbt_s=base.config.tbt_s * point.get("tbt", 1.0),
        eps_s=controller.eps_s * point.get("eps", 1.0),
        alpha=point.get("alpha", controller.alpha),
        delta=point.get("delta", controller.delta),
        eps_memory=point.get("eps-memory", controller.eps_memory),
        ema=point.get("ema", controller.ema),
    )
    return replace(changed, config=replace(changed.config, controller=controller))
