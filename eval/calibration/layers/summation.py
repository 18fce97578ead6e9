"""Layer tables to a profile: the layers of a model are added up, with the links between its GPUs.

A decode step of b members with x tokens each takes what depends on the tokens (dense layers, experts), what depends on
the sequences (output layer, sampling), attention, and the exchange between GPUs.  Nothing is fitted to a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.calibration.layers.files import LayerTables
from llmsched.eval.calibration.model_shape import ModelShape
from llmsched_env.grids import Grids, grid_from_points
from llmsched_env.profiles import Profile

Floats = NDArray[np.float64]

PER_LAYER = {
    "layernorm": 2,
    "qkv_proj": 1,
    "qk_norm": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""How often a layer of the model has each part of dense.csv."""

ONCE = ("embedding", "final_layernorm")
NEEDED = ("qkv_proj", "o_proj", "embedding")
BYTES = 2
"""Bytes of an activation (bfloat16)."""

BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""Batches of the profile's grid, as far as they were measured."""

MOST_CONTEXTS = 11
MOST_TOKEN_POINTS = 60
LEAST_CHUNK = 128
"""Chunks that the cost of attention is taken from, tokens: shorter ones are dominated by other work."""


@dataclass(frozen=True)
class Link:
    """The link between the GPUs of a server: bytes per second, and seconds before the first byte."""

    bytes_per_s: float
    latency_s: float

    def all_reduce_us(self, gpus: int, size: float) -> float:
        """A ring: 2 (n - 1) steps that each carry an n-th of ``size`` bytes."""
        return 2e6 * (gpus - 1) * (self.latency_s + size / gpus / self.bytes_per_s) if gpus > 1 else 0.0

    def gather_us(self, gpus: int, size: float) -> float:
        """An all-gather, or a reduce-scatter, in which the GPU with most rows has ``size`` bytes."""
        return 1e6 * (gpus - 1) * (self.latency_s + size / self.bytes_per_s) if gpus > 1 else 0.0


@dataclass(frozen=True)
class Deployment:
    """How the model is spread: GPUs that share it (``tensor_parallel``), and ``replicas`` that run in lock step.

    Replicas of a mixture of experts share the experts: each holds a part of them, and all wait for each other in
    every layer.  They are one server here, whose members are spread evenly.  ``token_budget``: tokens of an iteration
    of one replica.  ``lengths``: contexts of requests half-way through their answer, from which the longest of a
    batch is expected.  ``graphs``: numbers of tokens that the engine has CUDA graphs for, ascending; it pads to them.
    """

    shape: ModelShape
    link: Link
    tensor_parallel: int
    replicas: int
    token_budget: float
    lengths: Sequence[float]
    graphs: Sequence[int] = ()

    def padding(self, tokens: float) -> float:
        """Tokens by which an iteration is padded, on average over the numbers between two graphs."""
        if not self.graphs or tokens > self.graphs[-1]:
            return 0.0
        place = int(np.searchsorted(self.graphs, tokens))
        gap = self.graphs[place] - (self.graphs[place - 1] if place else 0)
        return 0.5 * (gap - 1)


class LayerSum:
    """Times in us of iterations of a model that is spread as ``deployment`` says."""

    def __init__(self, tables: LayerTables, deployment: Deployment) -> None:
        self.tables, self.deployment = tables, deployment
        shape = deployment.shape
        for part in NEEDED:
            if part not in tables.dense:
                raise ValueError(f"{tables.folder / 'dense.csv'}: no layer {part}; it has {', '.join(tables.dense)}.")
        for part in tables.dense:
            if part not in PER_LAYER and part not in ONCE:
                known = ", ".join([*PER_LAYER, *ONCE])
                raise ValueError(f"{tables.folder / 'dense.csv'}: the layer {part} is not known: known are {known}.")
        if bool(tables.moe) != bool(shape.experts):
            raise ValueError(
                f"{tables.folder}: {'a moe.csv' if tables.moe else 'no moe.csv'}, but {shape.name} has "
                f"{shape.experts or 'no'} experts: the tables are of another model."
            )
        self.members, self.contexts, grid = grid_from_points(tables.decode_attention)
        self.attention = np.array(grid)
        self.skew = tables.skew(deployment.tensor_parallel)

    def tokens_us(self, tokens: float) -> float:
        """Everything that depends on the tokens of one replica: dense layers, and the exchange after them."""
        shape, deployment = self.deployment.shape, self.deployment
        tokens += deployment.padding(tokens)
        layer = sum(curve.at(tokens) * PER_LAYER.get(part, 0) for part, curve in self.tables.dense.items())
        once = sum(self.tables.dense[part].at(tokens) for part in ONCE if part in self.tables.dense)
        size = tokens * shape.hidden * BYTES
        exchange = deployment.link.all_reduce_us(deployment.tensor_parallel, size)
        return shape.layers * (layer + 2 * exchange) + once + exchange

    def experts_us(self, tokens: float, most: float) -> float:
        """The experts of all layers, with ``tokens`` of all replicas, of which one has ``most``."""
        shape, n = self.deployment.shape, self.deployment.replicas
        if not shape.experts:
            return 0.0
        share = shape.experts_per_token / shape.experts
        touched = shape.experts / n * (1.0 - (1.0 - share) ** tokens)
        kernel = self._moe_us(tokens / n, touched)
        gather = self.deployment.link.gather_us(n, most * shape.hidden * BYTES)
        return shape.layers * (kernel + 2 * gather)

    def _moe_us(self, tokens: float, touched: float) -> float:
        """Between the measured numbers of activated experts."""
        measured = sorted(self.tables.moe)
        times = [self.tables.moe[number].at(tokens) for number in measured]
        return float(np.interp(touched, measured, times))

    def sequences_us(self, members: float) -> float:
        """The output layer and the sampling."""
        return sum(curve.at(members) for curve in self.tables.per_sequence.values())

    def attention_us(self, members: float, context: float) -> float:
        """Attention of one layer for ``members`` that decode with ``context`` tokens each."""
        by_member = [self._along_context(row, context) for row in self.attention]
        return float(np.interp(members, self.members, by_member))

    def _along_context(self, row: Floats, context: float) -> float:
        if context > self.contexts[-1]:
            slope = (row[-1] - row[-2]) / (self.contexts[-1] - self.contexts[-2])
            return float(row[-1] + slope * (context - self.contexts[-1]))
        return float(np.interp(context, self.contexts, row))

    def decode_us(self, batch: float, context: float) -> float:
        """A decode step of ``batch`` members over all replicas, ``context`` tokens on average.

        The longest of the members on a replica makes its attention slower than that of equal ones, by ``skew``.
        """
        members = batch / self.deployment.replicas
        attention = self.attention_us(members, context)
        if members > 1:
            longest = context * self.longest_to_mean(members)
            attention += self.skew * (self.attention_us(members, longest) - attention)
        whole = self.tokens_us(members) + self.experts_us(batch, members) + self.sequences_us(members)
        return whole + self.deployment.shape.layers * attention

    def longest_to_mean(self, members: float) -> float:
        """Expected longest of ``members`` contexts drawn from the deployment's lengths, over their mean."""
        ordered = np.sort(np.asarray(self.deployment.lengths, dtype=np.float64))
        below = (np.arange(len(ordered) + 1) / len(ordered)) ** members
        return float((ordered * np.diff(below)).sum() / ordered.mean())

    def prompt_us(self, tokens: float) -> float:
        """An iteration of prompts alone, apart from the attention among their own tokens."""
        budget = self.deployment.token_budget
        most = min(tokens, budget)  # a prompt is on one replica; with more tokens several of them prefill
        floor = min(self.tables.prompt_attention.values())
        whole = self.tokens_us(most) + self.experts_us(tokens, most) + self.sequences_us(1)
        return whole + self.deployment.shape.layers * floor

    def square_us(self) -> float:
        """Attention of prompts in all layers, per square: (done + chunk)^2 - done^2."""
        floor = min(self.tables.prompt_attention.values())
        rows = [(c, k, us) for (c, k), us in self.tables.prompt_attention.items() if c >= LEAST_CHUNK]
        if not rows:
            raise ValueError(f"{self.tables.folder / 'attention.csv'}: no prefill_chunk of {LEAST_CHUNK} or more.")
        squares = np.array([(c + k) ** 2 - k**2 for c, k, _ in rows])
        weight = 1.0 / np.array([self.tokens_us(c) + self.deployment.shape.layers * us for c, _, us in rows])
        above = np.array([us - floor for _, _, us in rows])
        per_layer = float((weight**2 * squares * above).sum() / (weight**2 * squares**2).sum())
        return self.deployment.shape.layers * per_layer

    def profile(self, name: str, kv_tokens: float) -> Profile:
        """The sum as a profile of the form `table`."""
        n, budget = self.deployment.replicas, self.deployment.token_budget
        batches = [b for b in BATCHES if self.members[0] <= b <= self.members[-1]]
        contexts = thinned(self.contexts, MOST_CONTEXTS)
        decode = tuple(tuple(1e-3 * self.decode_us(n * b, x) for x in contexts) for b in batches)
        points = [t for t in self.tables.dense[NEEDED[0]].points.tolist() if t <= budget]
        points += [] if n == 1 else [n * budget]
        prompts = [1e-3 * self.prompt_us(t) for t in points]
        tokens, prefill = simplified(points, prompts, MOST_TOKEN_POINTS)
        grids = Grids(tuple(float(n * b) for b in batches), tuple(contexts), decode, tuple(tokens), tuple(prefill))
        gpus = self.deployment.tensor_parallel * n
        p2 = 1e-3 * self.square_us()
        return Profile(name, "table", {"p2": p2}, kv_tokens, tensor_parallel=gpus, grids=grids)


def thinned(points: Sequence[float], most: int) -> list[float]:
    """At most ``most`` of the ``points``, the first and the last among them, about evenly by logarithm."""
    if len(points) <= most:
        return list(points)
    logs = np.log(np.maximum(points, 1.0))
    wanted = np.linspace(logs[0], logs[-1], most)
    return [points[k] for k in sorted({int(np.argmin(np.abs(logs - at))) for at in wanted})]


def simplified(points: Sequence[float], values: Sequence[float], most: int) -> tuple[list[float], list[float]]:
    """The curve with at most ``most`` points: the one that the others miss least is taken out, again and again."""
    x, y = list(points), list(values)
    while len(x) > most:
        between = [
            abs(np.interp(x[k], [x[k - 1], x[k + 1]], [y[k - 1], y[k + 1]]) / y[k] - 1.0) for k in range(1, len(x) - 1)
        ]
        least = 1 + int(np.argmin(between))
        del x[least], y[least]
    return x, y
