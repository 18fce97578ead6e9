"""The service time of a batch as the predicted lengths have it."""

from __future__ import annotations

from llmsched_env.compiler.parts import part
from llmsched_env.core.latency import decode_until_s, prefill_s


@part
def sums(state, n):
    """Of the ``n`` requests in ``state.members``: tokens to prefill, their squares, and the largest predicted lengths
    (what is left of the output, and with the prompt)."""
    prompts, squares, guess, total = 0.0, 0.0, 1, 0
    for m in range(n):
        request = state.requests[state.members[m]]
        prompt = float(request.prompt + request.generated)
        prompts += prompt
        squares += prompt * prompt
        guess = max(guess, request.predicted - request.generated)
        total = max(total, request.prompt + request.predicted)
    return prompts, squares, guess, total


@part
def batch_time(state, server, n, prompts, squares, guess, total):
    """Predicted service time of ``n`` requests with these sums and largest predicted (remaining, total) lengths."""
    if n == 0:
        return 0.0
    prefill = prefill_s(server, prompts, squares)
    return state.lane.overhead + prefill + decode_until_s(server, n, prompts, total - guess, guess)
