"""Options that only the environments have: what an agent sees, answers and is paid."""

from __future__ import annotations

from llmsched_env.core.constants import MAX_BINS
from llmsched_env.options.declaration import Option
from llmsched_env.options.kinds import Choice, Form, Number
from llmsched_env.options.words import ACTIONS

AGENT = (
    Option(
        "max_bins",
        "Number of bins that the observation and action spaces have room for.",
        Number(1, MAX_BINS, whole=True, optional=True),
        no_flag="the size of the environments' spaces",
        none="the number of bins",
    ),
    Option(
        "reward",
        "Weights of the reward terms miss, holding and tardiness that differ from their defaults.",
        Form("a mapping"),
        {},
        no_flag="what an agent is paid",
    ),
    Option(
        "action",
        "Form of an action: multidiscrete (a choice and a size) or ladder (one discrete choice).",
        Choice(ACTIONS),
        "multidiscrete",
        no_flag="the form of the environments' spaces",
    ),
)
"""What only the environments have."""
