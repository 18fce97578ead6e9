"""The systems that the learned scheduler of the engine `continuous` is trained on.

The targets fit the hardware: TTFT and TPOT are multiples of what requests of the same workload take when each is served
alone.  A load of 1 is the highest rate at which `sarathi`, the best first-come-first-served scheduler, keeps the
targets of 95 % of the requests.  Systems of 2025 and 2026 have the rules of a present vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from llmsched.policies import Bound, parse
from llmsched.train.systems import RECENT, TrainingSystem
from llmsched_env.config import SLO, Continuous, SimConfig
from llmsched_env.options.presets import OWN, RULES, against_cache, vllm_sizes
from llmsched_env.profiles import load_profile
from llmsched_env.workload.targets import alone_slo

RIVALS = (
    "sarathi,sarathi:budget=512,sarathi:budget=1024,sarathi:overdue=1.5,sarathi:budget=512:overdue=2,fcfs,fcfs:overdue=2,sjf,"
    "sjf:overdue=2,"
    "dynamic,dynamic:overdue=2,multibin,multibin:overdue=2,multibin:select=oldest:overdue=2,longest-queue:overdue=2,"
    "least-slack:overdue=2"
)
"""The heuristics that the network is compared with; none uses true output lengths."""

PRESENT = "vllm-0.32"
"""The rules of the recent systems."""

ENGINE_FIELDS = frozenset(field.name for field in fields(Continuous))

TIGHT, TIGHT_TOKENS = 2.73, 1.37
"""The targets of the scenario `default` (TTFT 1 s, TPOT 20 ms) as factors of its hardware's default targets."""

BUDGETS = (256, 512, 1024, 2048, 8192)
"""Token budgets of `sarathi`, of which the best at every rate counts, where the rules allow 8,192: a whole prompt of
that length takes many times the TPOT target."""

LOADS = (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6)
"""Loads of the runs that are trained on."""


@dataclass(frozen=True)
class ContinuousSystem(TrainingSystem):
    """A system to schedule iteration by iteration, without its load."""

    factor: float = 1.0  # TTFT target / the default target of the hardware
    token_factor: float | None = None  # the same of the TPOT target; None: as that of TTFT
    max_batch: int = 256
    rules: str = OWN
    engine: ClassVar[str] = "continuous"

    @property
    def name(self) -> str:
        """A short text that tells it from the other systems."""
        tokens = "" if self.token_factor is None else f" tokens x{self.token_factor:g}"
        return f"{super().name}{tokens} {self.predictor}"

    @cached_property
    def slo(self) -> SLO:
        """TTFT and TPOT targets that fit the profile."""
        alone = alone_slo(load_profile(self.profile), self.workload)
        tokens = self.factor if self.token_factor is None else self.token_factor
        return SLO(ttft_s=self.factor * alone.ttft_s, tpot_s=tokens * alone.tpot_s)

    @cached_property
    def target_s(self) -> float:
        """TTFT target in seconds; the search for the capacity starts from it."""
        return self.slo.ttft_s

    @cached_property
    def config(self) -> SimConfig:
        """The configuration of the simulator, before a policy adapts it."""
        made = super().config
        if self.rules == OWN:
            return made
        sizes = vllm_sizes(made.servers[0].profile.meta["gpu"])
        reason = against_cache((server.eta for server in made.servers), made.queueing.discipline)
        given = {name: value for name, value in RULES[self.rules].items() if name in ENGINE_FIELDS}
        given |= {"prefix_cache": "off"} if reason else {}
        engine = Continuous(**given, token_budget=sizes["token_budget"])
        return replace(made, max_batch=sizes["max_batch"], continuous=engine)

    @property
    def reference_policies(self) -> list[Bound]:
        """The policies whose capacity, the best of them, is a load of 1."""
        if self.rules == OWN:
            return [parse("sarathi")]
        return [parse(f"sarathi:budget={budget}") for budget in BUDGETS]


def recent_systems() -> list[ContinuousSystem]:
    """Systems of GPUs, models and engines of 2025 and 2026."""

    def make(profile: str = RECENT, **others: Any) -> ContinuousSystem:
        return ContinuousSystem(
            **{"profile": profile, "factor": TIGHT, "token_factor": TIGHT_TOKENS, "rules": PRESENT, **others}
        )

    return [
        make(),
        make(factor=1.5, token_factor=1.1),
        make(token_factor=2.5),
        make(servers=1),
        make(servers=2, bins=8),
        make(servers=16),
        make(bins=1),
        make(workload="azure-code"),
        make(workload="azure-code", servers=1, token_factor=1.0),
        make(workload="mooncake-conv", factor=1.0),
        make(burstiness=1.0, servers=1),
        make(burstiness=0.3),
        make(predictor="oracle", servers=8),
        make(profile="h100/llama-3.1-70b/vllm/fp8-tp4-unknown"),
        make(profile="h200/gpt-oss-120b/vllm/fp4-tp2-0.18.0", servers=8),
        make(profile="h100/qwen3-32b/vllm/unstated-tp4-0.12.0", servers=2),
        make(profile="h200/deepseek-v3/sglang/fp8-tp8-0.5.9"),
        make(profile="b200/gpt-oss-120b/trtllm/fp4-tp1-1.2.0rc2.post2", servers=16),
    ]


def training_systems() -> list[ContinuousSystem]:
    """The systems to train on.  Left out, for tests: some profiles, the lengths of BurstGPT."""
    return [*recent_systems(), *systems_of_2023()]


def systems_of_2023() -> list[ContinuousSystem]:
    """Systems of the profiles of 2023, with rules of our own."""
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
