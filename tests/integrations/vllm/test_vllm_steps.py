"""The logs of steps in vLLM's own loop, in virtual time: what they say of a step gives the time that it took."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_LOGGING_LEVEL="ERROR")
pytest.importorskip("vllm")

from llmsched.eval.reality.steps.reading import LoggedServer, read_log
from llmsched.eval.reality.vllm.tiny_model import write_config
from llmsched.eval.reality.vllm.virtual_time import VirtualEngine
from llmsched.eval.reality.vllm_systems import Stamps, System
from llmsched.policies.vllm.settings import STEPS, Settings
from llmsched_env.profiles import COEFFICIENTS, Profile
from tests.integrations.vllm.test_vllm import random_system

SYSTEMS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of a model."""
    return write_config(tmp_path_factory.mktemp("model"))


def logged(system: System, file: Path, model: Path, *, own: bool, asynchronous: bool) -> tuple[LoggedServer, Stamps]:
    """The log of a run, by vLLM's own order or by the class with a policy, and the stamps."""
    from llmsched.policies.vllm.logged import LoggedScheduler
    from llmsched.policies.vllm.scheduler import PolicyScheduler

    settings = Settings("static:batch=64", steps=file, options={"bins": 1})
    made: Any = LoggedScheduler if own else type("Scheduler", (PolicyScheduler,), {"SETTINGS": settings})

    def prepare(engine: VirtualEngine) -> None:
        engine.scheduler.clock, engine.scheduler.origin = lambda: engine.now, 0.0
        engine.scheduler.expects_arrivals = True

    engine = VirtualEngine(system, model, asynchronous=asynchronous, scheduler_class=made, prepare=prepare)
    stamps = engine.run()
    engine.scheduler._log.flush()
    return read_log(file), stamps


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_law_of_a_logged_step_is_its_time(
    own: bool, asynchronous: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every step of 60 random systems with preemptions; the requests' times are the stamps.

    The class, asynchronous: but for few steps, in which a preempted request computes one token that is prompt or not as
    one likes.
    """
    rng = np.random.default_rng(31)
    steps = mixed = wrong = 0
    for place in range(SYSTEMS):
        system = replace(random_system(rng), threshold=0)
        file = tmp_path / f"{place}.jsonl"
        monkeypatch.setenv(STEPS, str(file))
        log, stamps = logged(system, file, model, own=own, asynchronous=asynchronous)
        assert log.server["kv_tokens"] == 16 * system.blocks and log.server["max_seqs"] == system.seqs
        assert log.server["scheduling"] == ("async" if asynchronous else "sync")
        law = Profile("x", "split", dict(zip(COEFFICIENTS["split"], system.coef_ms, strict=True)), float("inf"))
        for step in log.steps:
            wrong += step.ms != pytest.approx(law.iteration_ms(*step.work), abs=2e-3)
        steps += len(log.steps)
        mixed += sum(step.work.phase == "mixed" for step in log.steps)
        assert sorted(r.done_s - log.origin_s for r in log.requests) == pytest.approx(
            sorted(filter(None, stamps.done)), abs=1e-5
        )
        assert sorted(r.first_s - log.origin_s for r in log.requests) == pytest.approx(
            sorted(filter(None, stamps.first)), abs=1e-5
        )
    assert wrong <= (0.02 * steps if asynchronous and not own else 0)
    assert steps > 20 * SYSTEMS and mixed > SYSTEMS
