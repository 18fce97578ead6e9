"""The policy `agent`: an agent that was trained on an environment and exported, run in the compiled simulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llmsched.policies.agent import checkpoint
from llmsched.policies.agent.fit import check_fit
from llmsched.policies.agent.layers import choose
from llmsched.policies.parameters import Text, Value
from llmsched.policies.registry import Floats, Function, policy
from llmsched.policies.sources import sources_of
from llmsched_env.config import SimConfig


def build_function(sources: str) -> Function:
    """The decide function; ``sources``: which source it is compiled from (sources_of)."""

    def agent(record, params, memory, rng):
        """The action that an exported agent scores highest (docs/howto/own_agent.md)."""
        sources  # noqa: B018
        return choose(record, params)

    return agent


def check_path(values: Mapping[str, Value]) -> None:
    """``ValueError`` without a file."""
    if values["path"] is None:
        raise ValueError("agent has no network of its own: give agent:path=NAME, which train/export.py wrote.")


def load_agent(values: Mapping[str, Value], config: SimConfig) -> tuple[Floats, int]:
    """(packed network (P,), 0 numbers of memory); ``ValueError`` where it is damaged, or does not fit ``config``."""
    found = checkpoint.load(str(values["path"]))
    check_fit(str(values["path"]), found.face, config, values)
    return found.packed, 0


policy(
    "agent",
    params={"path": Text(None, allowed="an agent that train/export.py wrote")},
    details=True,
    check=check_path,
    load=load_agent,
    needs_file=True,
)(build_function(sources_of(Path(__file__).parent)))
