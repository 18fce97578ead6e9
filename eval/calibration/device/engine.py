"""The engine that is measured: a Transformers model, prompts packed, a preallocated KV cache, greedy tokens.

A batch is prefilled in one pass over the concatenated prompts, with attention inside each prompt only
(variable-length attention: no padding is computed); then all rows decode together.  Prompts are right-aligned in the
cache, so that all rows append at the same column.  On a CPU every row attends to its own
tokens alone, as with paged attention; on CUDA rows of different lengths decode together, padding masked.
Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

ATTENTION = "llmsched"
"""Name of the attention below in Transformers."""


def kv_heads(config: Any) -> int:
    """Heads of keys and values; GPT-2 has one for each head and says nothing of it."""
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


class Slab:
    """KV cache of one batch, allocated once for ``capacity`` tokens per row; ``by_row``: rows attend one by one."""

    def __init__(self, config: Any, prompts: Sequence[int], capacity: int, like: torch.Tensor, by_row: bool) -> None:
        heads = kv_heads(config)
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, len(prompts), heads, capacity, width)
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.prompts = list(prompts)
        self.filled = 0  # columns in use, the same in all rows
        self.longest = max(prompts)
        self.starts = [self.longest - p for p in prompts]
        mixed, self.by_row, self.mask = any(self.starts), by_row, None
        self.one_by_one = by_row or mixed  # in prefill
        if mixed and not by_row:
            columns = torch.arange(capacity, device=like.device)
            self.mask = (columns >= torch.tensor(self.starts, device=like.device)[:, None])[:, None, None]

    def prefill(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Attention inside each prompt; q (1, heads, T, width).  Keys and values go to the cache."""
        if not self.one_by_one:
            b, p = len(self.prompts), self.longest
            q, k, v = (x.view(x.shape[1], b, p, x.shape[3]).transpose(0, 1) for x in (q, k, v))
            self.keys[layer, :, :, :p], self.values[layer, :, :, :p] = k, v
            out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
            return out.transpose(1, 2).reshape(1, b * p, out.shape[1], out.shape[3])
        parts, begin = [], 0
        for row, length in enumerate(self.prompts):
            span, columns = slice(begin, begin + length), slice(self.longest - length, self.longest)
            own_q, own_k, own_v = (x[:, :, span] for x in (q, k, v))
            self.keys[layer, row, :, columns], self.values[layer, row, :, columns] = own_k[0], own_v[0]
            parts.append(
                scaled_dot_product_attention(own_q, own_k, own_v, is_causal=True, scale=scale, enable_gqa=True)
            )
            begin += length
        return torch.cat(parts, dim=2).transpose(1, 2)

    def decode(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Append one token per row and attend to all tokens of the row; q (b, heads, 1, width)."""
        end = self.filled + 1
        self.keys[layer, :, :, self.filled : end], self.values[layer, :, :, self.filled : end] = k, v
        if self.by_row:
            return self._decode_by_row(layer, q, end, scale)
        mask = None if self.mask is None else self.mask[..., :end]
        keys, values = self.keys[layer, :, :, :end], self.values[layer, :, :, :end]
        out = scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale, enable_gqa=True)
        return out.transpose(1, 2)

    def _decode_by_row(self, layer: int, q: torch.Tensor, end: int, scale: float) -> torch.Tensor:
        keys, values = self.keys[layer], self.values[layer]
        parts = []
        for row, start in enumerate(self.starts):
            own = slice(row, row + 1), slice(None), slice(start, end)
            parts.append(scaled_dot_product_attention(q[own[0]], keys[own], values[own], scale=scale, enable_gqa=True))
        return torch.cat(parts).transpose(1, 2)


def _attention(
    module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _mask: None, *, slab: Slab, scaling: float, **_: Any
) -> tuple[torch.Tensor, None]:
    work = slab.decode if slab.filled else slab.prefill
    return work(module.layer_idx, q, k, v, scaling), None


AttentionInterface.register(ATTENTION, _attention)


class ModelEngine:
    """A model on a device that serves one batch at a time, token by token."""

    def __init__(self, model: PreTrainedModel, by_row: bool | None = None) -> None:
        """``by_row``: whether every row attends to its own tokens alone; None: on a CPU."""
        self.model = model.eval()
        self.by_row = model.device.type == "cpu" if by_row is None else by_row
        self.model.config._attn_implementation = ATTENTION
        self.device, self.vocabulary = model.device, model.config.vocab_size
        self._like = next(model.parameters())

    def slab(self, prompts: Sequence[int], tokens: int) -> Slab:
        """A cache for prompts of these lengths that get ``tokens`` tokens each."""
        return Slab(self.model.config, prompts, max(prompts) + tokens, self._like, self.by_row)

    def prompt_ids(self, prompts: Sequence[int], generator: torch.Generator | None = None) -> torch.Tensor:
        """Random tokens (1, sum of prompts) on the device."""
        ids = torch.randint(self.vocabulary, (1, sum(prompts)), generator=generator)
        return ids.to(self.device)

    def prefill(self, slab: Slab, ids: torch.Tensor) -> torch.Tensor:
        """Run all prompts, concatenated in ``ids`` (1, T); the first token of each row (b,)."""
        lengths = torch.tensor(slab.prompts, device=self.device)
        positions = torch.cat([torch.arange(p, device=self.device) for p in slab.prompts])[None]
        tokens = self._forward(slab, ids, positions, torch.cumsum(lengths, 0) - 1)[0]
        slab.filled = slab.longest
        return tokens

    def step(self, slab: Slab, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """One decode step of all rows: ``tokens`` and ``positions`` (b,) in, the next tokens (b,) out."""
        following = self._forward(slab, tokens[:, None], positions[:, None], 1)[:, 0]
        slab.filled += 1
        return following

    def generate(self, prompts: Sequence[int], tokens: int, ids: torch.Tensor) -> torch.Tensor:
        """``tokens`` greedy tokens for every prompt, (b, tokens): a batch run to completion."""
        slab = self.slab(prompts, tokens)
        positions = torch.tensor(slab.prompts, device=self.device)
        found = [self.prefill(slab, ids)]
        for _ in range(tokens - 1):
            found.append(self.step(slab, found[-1], positions))
            positions = positions + 1
        return torch.stack(found, dim=1)

    @torch.inference_mode()
    def _forward(
        self, slab: Slab, ids: torch.Tensor, positions: torch.Tensor, keep: torch.Tensor | int
    ) -> torch.Tensor:
        out = self.model(
            input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=keep, slab=slab, return_dict=True
        )
        return out.logits.argmax(dim=-1)
