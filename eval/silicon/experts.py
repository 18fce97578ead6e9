"""How many experts the models of the atlas have, and how many of them a token is sent to."""

from __future__ import annotations

from collections.abc import Mapping

EXPERTS: Mapping[str, tuple[int, int]] = {
    "deepseek-r1": (8, 256),
    "deepseek-v3": (8, 256),
    "minimax-m2.5": (8, 256),
    "gpt-oss-120b": (4, 128),
    "qwen3-235b-a22b": (8, 128),
    "qwen3.5-397b-a17b": (10, 512),
    "kimi-k2.5": (8, 384),
    "glm-5": (8, 256),
}
"""(experts of a token, experts of a layer) from the models' published configurations, by the model in lower case."""


def expert_share(short_model: str) -> float:
    """k / E of a model, 0 for a dense one."""
    chosen, all_of_them = EXPERTS.get(short_model, (0, 1))
    return chosen / all_of_them
