"""What the stress test shows: tables and figures by requests, servers and bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmsched.eval.experiments.stress.points import GRID, Level, Point
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.outcome import Outcome


@dataclass(frozen=True)
class StressStudy:
    """The runs by point, and their tables and figures; ``names``: the policies in order."""

    found: dict[Point, list[Outcome]]
    names: Sequence[str]
    levels: Sequence[Level]

    def value(self, point: Point, key: str) -> Interval:
        """A metric over seeds."""
        return interval([float(outcome.summary[key]) for outcome in self.found[point]])

    def step(self, step: str, level: Level, field: str) -> dict[int, dict[str, Point]]:
        """Points of a step and level, by the number that varies and by policy."""
        found: dict[int, dict[str, Point]] = {}
        for point in self.found:
            if point.step == step and point.level == level:
                found.setdefault(getattr(point, field), {})[point.policy.label] = point
        return found

    def by(self, step: str, field: str, title: str) -> Table:
        """SLO attainment of every policy by the number that varies."""
        rows: list[dict] = []
        for level in self.levels:
            for place, group in self.step(step, level, field).items():
                rate = next(iter(group.values())).factors["rate"]
                rows.append(
                    {"level": level.name, "rate": rate, field: place}
                    | {name: self.value(point, "slo_attainment") for name, point in group.items()}
                )
        columns = [Column("level", "level"), Column("rate", "rate", "req/s", 2), Column(field, title, digits=0)]
        columns += [Column(name, name, "SLO met, %", 1, 100.0) for name in self.names]
        return Table(f"by_{step}", f"SLO attainment by number of {title}", columns, rows)

    def scaling(self) -> Table:
        """Throughput by servers at fixed rates: of each policy per server, relative to the fewest servers."""
        rows: list[dict] = []
        for level in [level for level in self.levels if level.rate]:
            groups = self.step("servers", level, "servers")
            fewest = min(groups)
            for count, group in groups.items():
                row: dict = {"level": level.name, "servers": count}
                for name, point in group.items():
                    row[name] = self._efficiency(point, groups[fewest][name])
                rows.append(row)
        columns = [Column("level", "level"), Column("servers", "servers", digits=0)]
        columns += [Column(name, name, "efficiency, %", 1, 100.0) for name in self.names]
        note = (
            "Throughput per server relative to that with the fewest servers. Under 100 % where the arrivals no longer "
            "fill the servers: at a fixed rate more servers idle."
        )
        return Table("scaling", "Scaling efficiency of throughput", columns, rows, note)

    def _efficiency(self, point: Point, base: Point) -> Interval:
        ratio = base.servers / point.servers
        pairs = zip(self.found[point], self.found[base], strict=True)
        key = "request_throughput"
        return interval([ratio * one.summary[key] / other.summary[key] for one, other in pairs])

    def bins(self) -> Table:
        """Metrics of multibin by number of bins."""
        rows: list[dict] = []
        for level in self.levels:
            for k, group in self.step("bins", level, "bins").items():
                point = group[GRID]
                metrics = ("slo_attainment", "mean_e2el_ms", "p95_e2el_ms", "request_throughput", "mean_batch_size")
                rows.append({"level": level.name, "bins": k} | {key: self.value(point, key) for key in metrics})
        columns = [
            Column("level", "level"),
            Column("bins", "bins", digits=0),
            Column("slo_attainment", "SLO met", "%", 1, 100.0),
            Column("mean_e2el_ms", "E2E mean", "s", 1, 1e-3),
            Column("p95_e2el_ms", "E2E p95", "s", 1, 1e-3),
            Column("request_throughput", "throughput", "req/s", 3),
            Column("mean_batch_size", "batch", "mean", 1),
        ]
        return Table("by_bins", f"{GRID} by number of bins", columns, rows, "One bin is dynamic: a single queue.")

    def grid(self) -> Table:
        """The whole grid."""
        rows: list[dict] = [
            {**p.factors, "met": self.value(p, "slo_attainment"), "rate_out": self.value(p, "request_throughput")}
            for p in self.found
            if p.step == "grid"
        ]
        columns = [Column("level", "level"), *(Column(key, key, digits=0) for key in ("requests", "servers", "bins"))]
        columns += [Column("met", "SLO met", "%", 1, 100.0), Column("rate_out", "throughput", "req/s", 3)]
        return Table("grid", f"{GRID}: every size, number of servers and number of bins", columns, rows)

    def draw(self, title: str):
        """SLO attainment and throughput by servers, a panel per level."""
        panels = []
        for level in self.levels:
            groups = self.step("servers", level, "servers")
            counts = sorted(groups)
            drawn = [
                ChartLine(name, counts, [self.value(groups[c][name], "slo_attainment") for c in counts], row)
                for row, name in enumerate(self.names)
            ]
            panels.append(Panel(level.name, "servers", "SLO met, %", drawn, log_x=True, factor=100.0, share=True))
        return draw_lines("Servers", title, panels, height=2.9)

    def draw_bins(self, title: str):
        """SLO attainment of multibin by bins, a line per level."""
        drawn = []
        for row, level in enumerate(self.levels):
            groups = self.step("bins", level, "bins")
            counts = sorted(groups)
            drawn.append(
                ChartLine(level.name, counts, [self.value(groups[c][GRID], "slo_attainment") for c in counts], row)
            )
        panel = Panel("", "bins", "SLO met, %", drawn, log_x=True, factor=100.0, share=True)
        return draw_lines(f"Bins of {GRID}", title, [panel], columns=1, height=4.2)
