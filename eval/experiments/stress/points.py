"""The points of the stress test, and the scenario of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmsched.eval.cli.frame import Session
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import variant, with_servers
from llmsched.policies import Bound

GRID = "multibin"
"""The policy of the full grid."""


@dataclass(frozen=True)
class Level:
    """A level of load: a fixed rate (requests/s), or a rate per server."""

    name: str
    rate: float = 0.0
    rate_per_server: float = 0.0

    def at(self, servers: int) -> float:
        """The rate (requests/s) for this number of servers."""
        return self.rate + self.rate_per_server * servers


@dataclass(frozen=True)
class Point:
    """A point of the study: step, level, policy, and the three numbers that vary."""

    step: str
    level: Level
    policy: Bound
    size: int
    servers: int
    bins: int

    @property
    def factors(self) -> dict[str, object]:
        """The columns that mark its rows."""
        rate = self.level.at(self.servers)
        return {
            "step": self.step,
            "level": self.level.name,
            "rate": rate,
            "requests": self.size,
            "servers": self.servers,
            "bins": self.bins,
        }


class StressScenarios:
    """Scenarios by size, servers, bins and rate, each made once."""

    def __init__(self, session: Session) -> None:
        self._options = session.options
        self._by_bins: dict[int, Scenario] = {}

    def with_bins(self, bins: int) -> Scenario:
        """The session's scenario with this number of bins, at the workload's own rate."""
        if bins not in self._by_bins:
            self._by_bins[bins] = variant(self._options, rate_scale=1.0, bins=bins)
        return self._by_bins[bins]

    def at(self, point: Point) -> Scenario:
        """The scenario of a point."""
        base = with_servers(self.with_bins(point.bins), point.servers)
        work = replace(base.workload, requests=point.size, duration_s=None)
        return replace(base, workload=work).at_rate(point.level.at(point.servers))
