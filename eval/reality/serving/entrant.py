"""What is tried on the requests of a run: a server that is reached by HTTP, or a model in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmsched.eval.reality.serving.client import Served, Target
from llmsched.eval.reality.serving.vllm_server import VllmServer
from llmsched_env.requests import Requests

Serve = Callable[[Requests, int, float], tuple[list[Served], list[str]]]
"""(requests, seed, timeout in s) -> (rows, what happened besides): serves a run in this process."""


@dataclass
class Entrant:
    """A server to be tried: its label, how it is reached, and how it is started where this command does that.

    ``serve``: instead of all that, where the model is in this process; ``facts``: what a run depends on.
    """

    label: str
    open: Callable[[], Target] | None = None
    server: VllmServer | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    serve: Serve | None = None
