"""The policies `network` and `ppo`: the network of the engine, on shipped weights or on those of a checkpoint.

`network` has weights that an evolution strategy found, `ppo` those of gradient training (train/ppo_grouped.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llmsched.policies.network import checkpoint, settings
from llmsched.policies.network.batch_scores import choose_batch
from llmsched.policies.network.continuous_scores import choose_admission
from llmsched.policies.network.hardware import with_hardware
from llmsched.policies.parameters import Text, Value
from llmsched.policies.registry import Floats, Function, policy
from llmsched.policies.rules.grids import token_budget
from llmsched.policies.sources import sources_of
from llmsched_env.config import SimConfig


def build_function(sources: str) -> Function:
    """The decide function.

    ``sources`` says which source it was compiled from.  As a closure variable it is part of Numba's cache key, which
    otherwise covers this file alone.
    """

    def network(record, params, memory, rng):
        """The bin and the batch size, or waiting, that a trained network scores highest (docs/results/learned.md)."""
        sources  # noqa: B018
        if record.continuous:
            return choose_admission(record, params)
        return choose_batch(record, params)

    return network


def given_budget(values: Mapping[str, Value]) -> float | None:
    """Tokens of an iteration, where they are given."""
    return None if values["budget"] is None else float(values["budget"])


def adapt_network(config: SimConfig, values: Mapping[str, Value]) -> SimConfig:
    """``config`` with what the network sets; the factors of the overdue queue are those of the checkpoint, if any."""
    path = values["path"]
    overdue = checkpoint.load_overdue(str(path)) if path is not None and config.engine == "batch" else None
    return settings.adapt(config, given_budget(values), overdue)


def load_weights(values: Mapping[str, Value], config: SimConfig) -> tuple[Floats, int]:
    """(packed weights and hardware (P,), 0 numbers of memory) of the network of the engine of ``config``.

    They come from the checkpoint at ``path``, or are shipped.  ``ValueError`` where ``path`` is of the other engine.
    """
    path, budget = values["path"], given_budget(values)
    if path is None:
        return with_hardware(checkpoint.load_shipped(config.engine).packed, config, budget), 0
    found = checkpoint.load(str(path))
    if found.engine != config.engine:
        raise ValueError(
            f"{path}: trained for the engine {found.engine!r}, but this run is of {config.engine!r}: "
            f"give a checkpoint for {config.engine!r}."
        )
    return with_hardware(found.packed, config, budget), 0


def load_ppo(values: Mapping[str, Value], config: SimConfig) -> tuple[Floats, int]:
    """(packed weights (P,) of gradient training, 0 numbers of memory)."""
    return checkpoint.load(checkpoint.PPO).packed, 0


NETWORK = build_function(sources_of(Path(__file__).parent))

policy(
    "network",
    params={
        "path": Text(None, allowed="a checkpoint that train/ wrote, or none for the shipped weights"),
        "budget": token_budget(),
    },
    adapt=adapt_network,
    details=True,
    load=load_weights,
)(NETWORK)

policy(
    "ppo",
    engines=("batch",),
    summary="The network's choice on weights from gradient training: cloning, then PPO (docs/results/learned.md)",
    adapt=lambda config, values: settings.adapt_batch(config, *settings.OVERDUE_OF_PPO),
    details=True,
    load=load_ppo,
)(NETWORK)
