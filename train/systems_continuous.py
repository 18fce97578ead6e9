"""The systems that the learned scheduler of the engine `continuous` is trained on.

The targets fit the hardware: TTFT and TPOT are multiples of what requests of the same workload take when each is served
alone.  A load of 1 is the highest rate at which `sarathi`, the best first-come-first-served scheduler, keeps the
targets of 95 % of the requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from llmsched.policies import Bound, parse
from llmsched.train.systems import TrainingSystem
from llmsched_env.config import SLO
from llmsched_env.profiles import load_profile
from llmsched_env.workload.targets import alone_slo

RIVALS = (
    "sarathi,sarathi:budget=512,sarathi:budget=1024,sarathi:overdue=1.5,sarathi:budget=512:overdue=2,fcfs,sjf,sjf:overdue=2,"
    "dynamic,dynamic:overdue=2,multibin,multibin:overdue=2,multibin:select=oldest:overdue=2,longest-queue:overdue=2,"
    "least-slack:overdue=2"
)
"""The heuristics that the network is compared with; none uses true output lengths."""

LOADS = (0.5, 0.7, 0.9, 1.0, 1.2, 1.4, 1.6, 2.0)
"""Loads of the runs that are trained on."""


@dataclass(frozen=True)
class ContinuousSystem(TrainingSystem):
    """A system to schedule iteration by iteration, without its load."""

    factor: float = 1.0  # TTFT and TPOT targets / the default targets of the hardware
    max_batch: int = 256
    engine: ClassVar[str] = "continuous"

    @cached_property
    def slo(self) -> SLO:
        """TTFT and TPOT targets that fit the profile."""
        return alone_slo(load_profile(self.profile), self.workload, self.factor)

    @cached_property
    def target_s(self) -> float:
        """TTFT target in seconds; the search for the capacity starts from it."""
        return self.slo.ttft_s

    @property
    def reference_policies(self) -> list[Bound]:
        """The policy whose capacity is a load of 1."""
        return [parse("sarathi")]


def training_systems() -> list[ContinuousSystem]:
    """The systems to train on.  Left out, for tests: two profiles, the lengths of BurstGPT."""
    make = ContinuousSystem
    return [
        make(),
        make(factor=0.7),
        make(servers=1),
        make(servers=16),
        make(servers=2, bins=8),
        make(workload="azure-code"),
        make(workload="azure-code", servers=1),
        make(workload="mooncake-conv"),
        make(bins=1),
        make(burstiness=1.0, servers=1),
        make(predictor="oracle"),
        make(profile="a100-80gb_llama2-70b_tp4"),
        make(profile="h100-80gb_llama2-70b_tp8", servers=1),
        make(profile="a100-80gb_bloom-176b_tp8"),
        make(profile="h100-80gb_bloom-176b_tp8", servers=8),
        make(profile="h100_llama2-7b_tp1-gemm"),
        make(profile="a100_llama3-8b_tp1-gemm", servers=2),
        make(profile="amd-epyc-1-thread_tiny", servers=2),
    ]
