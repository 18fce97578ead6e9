"""The models that can be measured: presets with random weights, or models of Transformers.  Needs torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel, Qwen3Config

from llmsched.eval.calibration.architectures import BYTES, PRESETS, Architecture
from llmsched.eval.calibration.device.engine import kv_heads
from llmsched.eval.calibration.device.hardware import memory
from llmsched_env.options.suggest import did_you_mean

MOST_POSITIONS = 131072
GPT2 = "gpt2"


def config_of(model: str) -> Any:
    """The configuration of a preset, a hub name or a path; ``ValueError`` with one line where there is none."""
    if model in PRESETS:
        return _preset(PRESETS[model])
    path = Path(model).expanduser()
    if (model.startswith((".", "/", "~")) or model.endswith("/") or model.count("/") > 1) and not path.is_dir():
        raise ValueError(f"--model {model!r}: there is no such folder: give one with config.json and weights.")
    if "/" not in model and not path.exists():
        close = did_you_mean(model, list(PRESETS))
        raise ValueError(
            f"--model {model!r} is not known.{close} Presets: {', '.join(PRESETS)}; or OWNER/NAME (hub), or a path."
        )
    try:
        config = AutoConfig.from_pretrained(place_of(model))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--model {model!r}: no configuration found ({str(error).splitlines()[0]})") from error
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layers != {"full_attention"} or not (config.model_type == GPT2 or getattr(config, "num_key_value_heads", None)):
        raise ValueError(
            f"--model {model!r} is a {config.model_type} with {', '.join(sorted(layers))}: "
            "only decoders with full attention in every layer (Llama, Qwen3, GPT-2, ...) can be run."
        )
    return config


def say_less() -> None:
    """Have the libraries say nothing but errors: what a user has to know comes in one line of ours."""
    transformers.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def place_of(model: str) -> str:
    """A hub name as it is; a path with the home folder in it."""
    return str(Path(model).expanduser()) if model.startswith("~") else model


def _preset(sizes: Architecture) -> Any:
    if sizes.family == GPT2:
        return GPT2Config(
            vocab_size=sizes.vocabulary,
            n_embd=sizes.hidden,
            n_inner=sizes.intermediate,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            n_positions=sizes.positions,
            tie_word_embeddings=sizes.tied,
            bos_token_id=None,
            eos_token_id=None,
        )
    make = {"qwen3": Qwen3Config, "llama": LlamaConfig}[sizes.family]
    return make(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        tie_word_embeddings=sizes.tied,
        max_position_embeddings=MOST_POSITIONS,
        bos_token_id=None,
        eos_token_id=None,
    )


def architecture_of(config: Any) -> Architecture:
    """The sizes of a configuration of Transformers."""
    learned = config.model_type == GPT2
    inner = (config.n_inner or 4 * config.hidden_size) if learned else config.intermediate_size
    return Architecture(
        config.model_type,
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        kv_heads(config),
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        inner,
        config.vocab_size,
        bool(config.tie_word_embeddings),
        *((2, config.n_positions) if learned else ()),
    )


def load(model: str, config: Any, device: torch.device, dtype: str, *, random_weights: bool) -> PreTrainedModel:
    """The model on the device; ``ValueError`` where it does not fit the memory or has no weights."""
    needed, (free, _) = architecture_of(config).parameters * BYTES[dtype], memory(device)
    if needed > free:
        raise ValueError(
            f"--model {model}: its weights take {needed / 1e9:.1f} GB in {dtype}, but {device} has {free / 1e9:.1f} GB "
            "free. Give a smaller model or dtype."
        )
    kind = getattr(torch, dtype)
    if random_weights or model in PRESETS:
        with torch.device(device):
            return AutoModelForCausalLM.from_config(config, dtype=kind)
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(place_of(model), dtype=kind)
        return found.to(device)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--model {model!r}: no weights found ({reason}). --random-weights needs none.") from error
