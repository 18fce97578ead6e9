"""Which requests may join a running set (docs/reference/continuous.md, 5. Admission: conditions A1 to A5)."""

from __future__ import annotations

import math

from tests.oracles.batch.requests import Request
from tests.oracles.continuous.options import Options
from tests.oracles.continuous.server import BLOCK, Server, blocks_for


def reservation(server: Server, request: Request) -> float:
    """Tokens that a request reserves on a server."""
    return min(BLOCK * blocks_for(request.prompt + request.predicted), server.eta)


def watermark(server: Server, share: float) -> int:
    """Blocks that must stay free beside members: a share of all, with the one that vLLM keeps for itself."""
    return 0 if math.isinf(server.blocks) else math.floor(share * (server.blocks + 1))


def has_free_slot(server: Server, options: Options, max_batch: int) -> bool:
    """Whether a server may be asked; SRPT may preempt from a full one."""
    if server.quiet or (len(server.members) + len(server.leaving) >= max_batch and not options.srpt):
        return False
    return options.prefill == "first" or _budget_is_left(server, options)


def _budget_is_left(server: Server, options: Options) -> bool:
    return server.asked_tokens < options.token_budget - len(server.decoding)


def broken_rules(server: Server, request: Request, size: int, options: Options) -> set[int]:
    """Numbers of the rules that keep a request out of a server; ``size`` is at most max_batch."""
    prompt = request.prompt + request.generated
    broken = set()
    seated = len(server.members) + len(server.leaving)
    if seated >= size:
        broken.add(1)
    if prompt > server.eta:
        broken.add(2)
    kept_free = watermark(server, options.watermark) if options.admission != "predicted" and seated else 0
    need = server.need(options.prefill, options.token_budget) + server.leaving_blocks
    found = BLOCK * len(server.cache.find(request.number, prompt)) if server.cache else 0
    left = min(prompt - found, server.most)  # tokens of its first chunk, if the budget allows
    budget = options.token_budget - len(server.decoding) - server.asked_tokens
    room_for = prompt
    if options.admission == "chunk" and options.prefill != "first":
        room_for = found + int(min(left, max(budget, 0)))
    wanted = server.cache.missing(request.number, prompt, room_for) if server.cache else blocks_for(room_for)
    if need + wanted > server.blocks - kept_free:
        broken.add(3)
    if options.admission == "predicted":
        reserved = sum(member.reservation for member in server.members)
        if reserved + reservation(server, request) > server.eta:
            broken.add(4)
    if options.prefill == "chunked":
        if not _budget_is_left(server, options):
            broken.add(5)
    elif options.prefill == "whole":
        if server.members and left > budget:
            broken.add(5)
    elif server.prefilling and sum(m.left for m in server.prefilling) + prompt - found > options.token_budget:
        broken.add(5)
    if request.arrival > server.known:
        broken.add(6)
    return broken
