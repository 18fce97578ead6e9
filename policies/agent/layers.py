"""The compiled forward pass of an exported agent, and the action that it scores highest.

Packed numbers (checkpoint.Agent.packed): ladder, max_bins, max_batch, overdue, masked, activation (0 tanh, 1 relu),
number of layers, the widths from inputs to outputs, the smallest and the largest value of every input (in,); then for
every layer its weights (in, out) row by row and its biases (out,).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from llmsched.policies.agent.view import answer_of, write_image, write_mask, write_valid

LADDER, MAX_BINS, MAX_BATCH, OVERDUE, MASKED, ACTIVATION, LAYERS, HEAD = 0, 1, 2, 3, 4, 5, 6, 7
"""Places of the packed numbers before the widths."""


@njit
def add_layer(weights, at, inputs, out):
    """Write the layer that begins at ``weights[at]``, of ``inputs``, into ``out``; returns the place behind it.

    Row by row of the inputs: an input of 0 (an empty bin, a silent unit) costs nothing.
    """
    width = len(out)
    bias = at + len(inputs) * width
    out[:] = weights[bias : bias + width]
    for j in range(len(inputs)):
        value = inputs[j]
        if value != 0.0:
            row = at + j * width
            for h in range(width):
                out[h] += value * weights[row + h]
    return bias + width


@njit
def activate(units, relu):
    """Replace ``units`` by their tanh, or by what of them is above 0."""
    for h in range(len(units)):
        units[h] = max(units[h], 0.0) if relu else math.tanh(units[h])


@njit
def score_actions(params, image):
    """The scores (outputs,) of an observation: every part of the action side by side."""
    layers = int(params[LAYERS])
    at = HEAD + layers + 1
    inputs = len(image)
    units = np.empty(inputs)
    for j in range(inputs):
        units[j] = min(max(image[j], params[at + j]), params[at + inputs + j])
    at += 2 * inputs
    for n in range(layers):
        out = np.empty(int(params[HEAD + n + 1]))
        at = add_layer(params, at, units, out)
        if n < layers - 1:
            activate(out, params[ACTIVATION] == 1.0)
        units = out
    return units


@njit
def best_of(scores, mask, first, last):
    """Place, counted from ``first``, of the highest score among the valid ones from first to last - 1; the first of
    equal ones."""
    best = -1
    for i in range(first, last):
        if mask[i] and (best < 0 or scores[i] > scores[best]):
            best = i
    return best - first


@njit
def choose_action(params, image, valid):
    """The action (first, second) of the highest scores; of a ladder the second is 0."""
    ladder = params[LADDER] == 1.0
    scores = score_actions(params, image)
    mask = np.ones(len(scores), np.bool_)
    if params[MASKED] == 1.0:
        write_mask(valid, ladder, mask)
    if ladder:
        return best_of(scores, mask, 0, len(scores)), 0
    choices = len(valid) - 1
    return best_of(scores, mask, 0, choices), best_of(scores, mask, choices, len(scores))


@njit
def choose(record, params):
    """The answer (choice, batch size) of the agent, size 0 for waiting."""
    max_bins = int(params[MAX_BINS])
    image = np.zeros(int(params[HEAD]), np.float32)
    valid = np.empty(max_bins + 2 + int(params[OVERDUE]), np.int8)
    write_image(record, max_bins, image)
    write_valid(record, max_bins, valid)
    first, second = choose_action(params, image, valid)
    return answer_of(record, params[LADDER] == 1.0, max_bins, first, second)
