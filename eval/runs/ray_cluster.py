"""Runs on a Ray cluster: the same cells, the same bytes, other machines.

Ray distributes the cells and makes a run again when a worker or a machine is lost; this module only packs the cells.
Other machines get a copy of the checkout, so all run the same source; the first run on a machine compiles it.  On this
machine the checkout is used in place.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.runs.cache_key import source_version
from llmsched.eval.runs.machine import ROOT
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell, SharedArrivals, outcome_of_cell
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound
from llmsched.policies.parameters import Value
from llmsched.policies.registry import OURS, get
from llmsched.policies.userfile import load_policy

HINT = "--ray needs Ray: pip install ray"

LOOK_S = 0.2
"""Seconds between two looks of the driver for Ctrl-C."""

ANSWER_S = 10.0
"""Seconds that a cluster may take to answer."""

TRAVELS = ("llmsched", "llmsched_env", "policies", "eval", "data", "pyproject.toml")
"""What a run needs of the checkout; of an installed package the first two, which hold the rest."""


@dataclass(frozen=True)
class PackedCell:
    """A cell in the form that is sent: the policy by name or by the text of its file, with its parameters."""

    label: str
    name: str
    file: tuple[str, bytes] | None
    values: dict[str, Value]
    params: NDArray[np.float64]
    memory: int
    seed: int
    split: str
    timeline: bool
    streamed: bool

    @classmethod
    def of(cls, cell: Cell) -> PackedCell:
        """Pack ``cell`` without its scenario, which is sent once for all cells."""
        policy, ready = cell.policy.policy, cell.policy.ready(cell.scenario.config)
        own = policy.file.is_relative_to(OURS)
        file = None if own else (policy.file.name, policy.file.read_bytes())
        return cls(
            cell.label,
            policy.name,
            file,
            dict(cell.policy.values),
            np.asarray(ready.params),
            ready.memory_size,
            cell.seed,
            cell.split,
            cell.timeline,
            cell.streamed,
        )

    def cell(self, scenario: Scenario) -> Cell:
        """The cell, on a machine that has the same source."""
        policy = get(self.name) if self.file is None else _from_text(*self.file, self.name)
        params = self.params.copy()  # an array from Ray is read-only, which the kernel does not accept
        loaded = {scenario.config: (params, self.memory)}  # learned weights, which were read from a file
        bound = Bound(policy, self.values, self.label, self.name, loaded)
        return Cell(self.label, bound, scenario, self.seed, self.split, self.timeline, self.streamed)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Folders with users' files, which exist as long as this process."""


@lru_cache
def _from_text(name: str, text: bytes, policy: str) -> Any:
    _FOLDERS.append(tempfile.TemporaryDirectory())
    path = Path(_FOLDERS[-1].name) / name
    path.write_bytes(text)
    return load_policy(str(path), policy)


def run_packed(packed: PackedCell, scenario: Scenario, version: str) -> Outcome:
    """Make a run on the machine of the worker."""
    if source_version() != version:
        raise ValueError(
            "--ray: a machine of the cluster has other versions of Python or its libraries: make them equal."
        )
    cell = packed.cell(scenario)
    return outcome_of_cell(cell, SharedArrivals([cell]))


class RayCluster:
    """A cluster to which this process is connected; see llmsched.eval.runs.cells.Cluster."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._run = ray.remote(max_retries=-1, num_cpus=1)(run_packed)

    def run_cells(self, cells: Sequence[Cell]) -> Iterator[tuple[int, Outcome]]:
        """(place in ``cells``, outcome) as they finish; runs of lost workers are made again, by Ray."""
        scenarios: dict[int, Any] = {}
        places: dict[Any, int] = {}
        for place, cell in enumerate(cells):
            key = id(cell.scenario)
            if key not in scenarios:
                scenarios[key] = self._ray.put(cell.scenario)
            places[self._run.remote(PackedCell.of(cell), scenarios[key], source_version())] = place
        try:
            while places:
                ready, _ = self._ray.wait(list(places), timeout=LOOK_S)
                for reference in ready:
                    yield places.pop(reference), self._result(reference)
        finally:
            for reference in places:
                self._ray.cancel(reference)

    def _result(self, reference: Any) -> Outcome:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.as_instanceof_cause()
            if isinstance(cause, ValueError):
                raise ValueError(str(error.cause)) from None
            raise


def connect(address: str) -> RayCluster:
    """Connect to the cluster at ``address``; ``ValueError`` with a line for the user where that fails."""
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"{HINT}.")
    _check_answers(address)
    ray = importlib.import_module("ray")
    if not ray.is_initialized():
        quiet = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
        try:
            ray.init(**quiet)
            environment = _environment({node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]})
            ray.shutdown()
            ray.init(**quiet, runtime_env=environment)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"--ray {address}: there is no such cluster ({reason}): give HOST:PORT, or auto."
            ) from None
    return RayCluster(ray)


def _check_answers(address: str) -> None:
    """Refuse ``HOST:PORT`` where nothing listens: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # auto, or a name that Ray knows
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ValueError(
            f"--ray {address}: nothing answers there ({error}): give HOST:PORT of a cluster, or auto."
        ) from None


def _environment(hosts: set[str]) -> dict[str, Any]:
    """Where the workers find the source: on this machine in place, on others in a copy that Ray sends."""
    if hosts <= {platform.node()}:
        return {"env_vars": {"PYTHONPATH": str(ROOT)}}
    others = [path.name for path in ROOT.iterdir() if path.name not in TRAVELS]
    excludes = [*(f"/{name}" for name in others), "**/__pycache__"]  # nothing that this machine compiled
    return {"working_dir": str(ROOT), "excludes": excludes}
