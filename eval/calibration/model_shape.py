"""The sizes of a model that its times and its memory follow from: of a Hugging Face config.json, or a known name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.showing import shortened
from llmsched_env.options.suggest import did_you_mean


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer with grouped-query attention in every layer.

    Sizes are of the whole model, before any split over GPUs.  ``experts`` 0: no mixture of experts; then
    ``intermediate`` is the size of the dense layer, else of one expert.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    experts: int = 0
    experts_per_token: int = 0

    @property
    def attention_weights(self) -> int:
        """Weights of the attention of one layer."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def expert_weights(self) -> int:
        """Weights of the dense part of one layer, or of one expert."""
        return 3 * self.hidden * self.intermediate

    @property
    def weights(self) -> int:
        """Weights of the whole model, norms aside; embedding and output layer counted as two tables."""
        per_layer = self.attention_weights + max(self.experts, 1) * self.expert_weights
        return self.layers * per_layer + 2 * self.vocabulary * self.hidden

    @property
    def kv_numbers_per_token(self) -> int:
        """Numbers in the cache per token: a key and a value in every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim


_LLAMA_3_1 = {
    "Llama-3.1-8B": ModelShape("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256),
    "Llama-3.1-70B": ModelShape("Llama-3.1-70B", 80, 8192, 64, 8, 128, 28672, 128256),
    "Llama-3.3-70B": ModelShape("Llama-3.3-70B", 80, 8192, 64, 8, 128, 28672, 128256),
}
_QWEN_3 = {
    "Qwen3-8B": ModelShape("Qwen3-8B", 36, 4096, 32, 8, 128, 12288, 151936),
    "Qwen3-14B": ModelShape("Qwen3-14B", 40, 5120, 40, 8, 128, 17408, 151936),
    "Qwen3-32B": ModelShape("Qwen3-32B", 64, 5120, 64, 8, 128, 25600, 151936),
    "Qwen3-30B-A3B": ModelShape("Qwen3-30B-A3B", 48, 2048, 32, 4, 128, 768, 151936, 128, 8),
    "Qwen3-235B-A22B": ModelShape("Qwen3-235B-A22B", 94, 4096, 64, 4, 128, 1536, 151936, 128, 8),
}
KNOWN: Mapping[str, ModelShape] = _LLAMA_3_1 | _QWEN_3
"""Sizes from the models' published configurations, by the name of the model without what its variants append."""


def known_shape(name: str) -> ModelShape:
    """The sizes of a model by its hub name, such as ``meta-llama/Llama-3.1-8B-Instruct``; ``ValueError`` if unknown."""
    bare = name.rsplit("/", 1)[-1].lower()
    fitting = [known for known in KNOWN if bare == known.lower() or bare.startswith(f"{known.lower()}-")]
    if fitting:
        return KNOWN[max(fitting, key=len)]
    raise ValueError(
        f"model {name!r} is not known.{did_you_mean(bare, KNOWN)} Known: {', '.join(KNOWN)}; or give its config.json "
        "with --config."
    )


SIZES = {
    "layers": ("num_hidden_layers",),
    "hidden": ("hidden_size",),
    "heads": ("num_attention_heads",),
    "kv_heads": ("num_key_value_heads",),
    "vocabulary": ("vocab_size",),
}
"""Fields of a config.json that are needed, by the field of ModelShape."""

LARGEST = 10**9
"""The largest size that is read."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
OTHER_ATTENTION = ("kv_lora_rank", "linear_num_key_heads", "ssm_state_size")
"""Fields of models whose attention has another cost than the one that is counted here."""


def read_config(path: Path) -> ModelShape:
    """The sizes of the model of a Hugging Face ``config.json``; ``ValueError`` with one line."""
    try:
        raw = read_json(path)
    except CannotReadError as error:
        raise ValueError(f"{path}: {error}.") from None
    if type(raw) is not dict:
        raise ValueError(f"{path}: not a JSON object but {type(raw).__name__}.")
    raw = raw.get("text_config") or raw
    if type(raw) is not dict:
        raise ValueError(f"{path}: text_config is {type(raw).__name__}: give an object.")
    found = {size: _whole(path, raw, names) for size, names in SIZES.items()}
    for name in OTHER_ATTENTION:
        if raw.get(name):
            raise ValueError(f"{path}: {name}={shortened(repr(raw[name]))} is an attention that is not modelled here.")
    stated = raw.get("head_dim") is not None
    head_dim = _whole(path, raw, ("head_dim",)) if stated else found["hidden"] // found["heads"]
    if head_dim < 1:
        raise ValueError(
            f"{path}: hidden_size={found['hidden']} is less than num_attention_heads={found['heads']}: give head_dim."
        )
    experts = next((name for name in EXPERTS if raw.get(name)), None)
    if experts is None:
        inner = _whole(path, raw, ("intermediate_size",))
        return ModelShape(_name(raw, path), head_dim=head_dim, intermediate=inner, **found)
    inner = _whole(path, raw, ("moe_intermediate_size", "intermediate_size"))
    per_token = _whole(path, raw, ("num_experts_per_tok", "num_experts_per_token"))
    of_experts = {"experts": _whole(path, raw, (experts,)), "experts_per_token": per_token}
    return ModelShape(_name(raw, path), head_dim=head_dim, intermediate=inner, **found, **of_experts)


def _name(raw: Mapping[str, Any], path: Path) -> str:
    return str(raw.get("_name_or_path") or path.resolve().parent.name)


def _whole(path: Path, raw: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of ``names`` that ``raw`` has, a whole number of at least 1, and of at most LARGEST."""
    for name in names:
        if name in raw:
            value = raw[name]
            if type(value) is not int or not 1 <= value <= LARGEST:
                given = f"{path}: {name}={shortened(repr(value))}"
                raise ValueError(f"{given} is not allowed: give a whole number from 1 to {LARGEST}.")
            return value
    raise ValueError(f"{path}: the field {names[0]!r} is missing, and the times of a model need it.")
