"""KV memory in blocks: what the members of a running set hold and need (docs/reference/continuous.md, 3. Memory).

An iteration needs slots for the tokens that it computes.  A decoding member of context x computes the KV of its newest
token in its next iteration: until then it holds ceil((x - 1) / 16) blocks.  A prompt takes its blocks chunk by chunk.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.layout import NONE
from llmsched_env.engines.continuous.cache.pool import in_use
from llmsched_env.engines.continuous.cache.stays import start_of

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

ENDLESS = 2**62
"""Iterations until a memory without limit is full."""


@part
def to_prefill(request):
    """Tokens of ``request`` that a stay begins with: its prompt and what it generated in earlier stays."""
    return request.prompt + request.generated


@part
def budget_left(params, server):
    """Tokens that the next iteration has for prompts."""
    return math.inf if params.prefill_first else params.token_budget - server.set.decoding


@part
def chunk_of(state: State, server, i, left):
    """Tokens that the next iteration prefills of request ``i`` with ``left`` of the budget; and done before."""
    request = state.requests[i]
    return min(to_prefill(request) - request.prefilled, left, server.set.most), request.prefilled


@part
def prompts_ask(state: State, server):
    """Tokens that the members' prompts would take of the next iteration if its budget had no end."""
    if state.params.max_chunk == math.inf:
        return server.set.backlog
    tokens, i = 0.0, server.set.prefill_head
    while i != NONE:
        chunk, _ = chunk_of(state, server, i, math.inf)
        tokens += chunk
        i = state.requests[i].next
    return tokens


@part
def first_end(state: State, server, i):
    """Tokens of request ``i`` that are prefilled after its first iteration if it joins ``server`` now."""
    start = start_of(state, i)
    left = budget_left(state.params, server) - prompts_ask(state, server)
    return start + int(min(to_prefill(state.requests[i]) - start, left, server.set.most))


@part
def blocks_of(tokens):
    """Blocks that ``tokens`` take."""
    return float((tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS)


@part
def change_residue(server, context, number):
    """``number`` more decoding members of ``context`` tokens now."""
    server.set.residue[(context - 1 - server.set.iteration) % BLOCK_TOKENS] += number


@part
def _residue(server, ahead):
    """Decoding members whose tokens in blocks are ``ahead`` (1 to 16) modulo 16 at the start of the segment."""
    return server.set.residue[(ahead - server.set.iteration) % BLOCK_TOKENS]


@part
def blocks_after(server, k):
    """Blocks held after ``k`` iterations of the segment, prompts that they prefill apart."""
    whole, rest = k // BLOCK_TOKENS, k % BLOCK_TOKENS
    blocks = server.set.blocks + whole * server.set.decoding
    for step in range(rest):  # a full last block needs another one
        blocks += _residue(server, BLOCK_TOKENS - step)
    return blocks


@part
def _chunk_blocks(state: State, server):
    """Blocks that the chunks of the next iteration take, one chunk after the other."""
    blocks, left, i = 0.0, budget_left(state.params, server), server.set.prefill_head
    while i != NONE and left > 0.0:
        chunk, done = chunk_of(state, server, i, left)
        blocks += blocks_of(int(done + chunk)) - blocks_of(done)
        left -= chunk
        i = state.requests[i].next
    return blocks


@part
def prompt_blocks(state: State, server):
    """Blocks that the chunks of the next iteration take; only the last prompt may end later than that."""
    if server.set.prefilling == 0:
        return 0.0
    if state.params.max_chunk < math.inf:
        return _chunk_blocks(state, server)
    beyond = server.set.backlog - budget_left(state.params, server)
    if beyond <= 0.0:
        return server.set.prompt_blocks
    whole = to_prefill(state.requests[server.set.prefill_tail])
    return server.set.prompt_blocks - (blocks_of(whole) - blocks_of(whole - int(beyond)))


@part
def need(state: State, s):
    """Blocks that the members hold in the iteration after the boundary where the server stands, or will be asked."""
    server = state.servers[s]
    if state.params.cached:
        return in_use(state.pools[s])
    return blocks_after(server, server.set.boundary + 1) + prompt_blocks(state, server)


@part
def room_at_start(state: State, s):
    """Blocks that server ``s`` has for what its decoding members take from the start of their segment on."""
    server = state.servers[s]
    if state.params.cached:  # its first iteration is composed
        return float(state.pools[s].free + _residue(server, BLOCK_TOKENS))
    return state.hardware[s].capacity - server.set.blocks


@part
def blocks_at(state: State, s, k):
    """Blocks of server ``s`` at the time of its ``k``-th boundary, prompts that it prefills apart."""
    server = state.servers[s]
    if not state.params.cached:
        return blocks_after(server, k)
    blocks = in_use(state.pools[s])
    for iteration in range(state.pools[s].ready, server.set.iteration + k + 1):
        blocks += server.set.residue[(-iteration) % BLOCK_TOKENS]
    return blocks


@part
def iterations_that_fit(server, room):
    """Iterations after which the decoding members still fit into ``room`` blocks more (no member prefills)."""
    if room == math.inf:
        return ENDLESS
    whole = int(room // server.set.decoding)
    room -= whole * server.set.decoding
    rest = 0
    while rest < BLOCK_TOKENS - 1:
        room -= _residue(server, BLOCK_TOKENS - rest)
        if room < 0.0:
            break
        rest += 1
    return BLOCK_TOKENS * whole + rest
