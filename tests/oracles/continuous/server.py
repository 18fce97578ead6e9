"""A server, its running set and its memory in blocks (docs/reference/continuous.md, Servers and Memory)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmsched_env.profiles import Profile
from tests.oracles.batch.requests import Request
from tests.oracles.continuous.cache import Cache
from tests.oracles.continuous.durations import Segment, chunk_iteration_s, decode_parts_s

BLOCK = 16
"""Tokens of KV in a block."""


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK)


@dataclass(eq=False)
class Member:
    """A request in a running set: one stay."""

    request: Request
    prompt: int  # P: what must be prefilled
    lacking: int  # R: output tokens that this stay must produce
    reservation: float  # tokens
    prefilled: int = 0
    tokens: int = 0  # g: produced in this stay
    table: list[int] = field(default_factory=list)  # with a prefix cache: its blocks
    named: int = 0  # ... of which so many have a name

    @property
    def decoding(self) -> bool:
        """Whether its prefill is over."""
        return self.prefilled == self.prompt

    @property
    def left(self) -> int:
        """Prompt tokens that are not prefilled yet."""
        return self.prompt - self.prefilled

    @property
    def missing(self) -> int:
        """Output tokens that it lacks now."""
        return self.lacking - self.tokens

    @property
    def context(self) -> int:
        """x: tokens in its cache, of a decoding member."""
        return self.prompt + self.tokens

    @property
    def held(self) -> int:
        """Blocks with its keys and values; those of its newest token are computed in the next iteration."""
        return blocks_for(self.context - 1 if self.decoding else self.prefilled)

    @property
    def computed(self) -> int:
        """Tokens of which it has keys and values, or a token that it has just got."""
        return self.context if self.decoding else self.prefilled

    @property
    def promised(self) -> int:
        """Blocks that it holds, or will hold when its prompt is prefilled."""
        return self.held if self.decoding else blocks_for(self.prompt)


@dataclass
class Window:
    """What a server did since its last SLA update."""

    since: float = 0.0
    time: float = 0.0  # of iterations that began with decoding members
    iterations: int = 0  # in which a member decoded
    member_iterations: int = 0


@dataclass
class Iteration:
    """What happens until the next boundary."""

    start: float
    end: float
    at_start: int  # members that were decoding when it began
    decoders: list[Member]
    chunks: list[tuple[Member, int]]


@dataclass(eq=False)
class Server:
    """A server and what it is doing."""

    number: int
    profile: Profile
    blocks: float  # an integer, or inf
    cache: Cache | None = None
    members: list[Member] = field(default_factory=list)  # in order of admission
    wants: bool = False  # to be asked at its next boundary
    segment: Segment | None = None  # None: the next iteration starts one
    iteration: Iteration | None = None  # None: idle
    window: Window = field(default_factory=Window)
    # asynchronous scheduling: what the composition of this instant does not know yet
    known: float = math.inf  # what happened after this
    leaving: list[Member] = field(default_factory=list)  # members that complete now
    quiet: bool = False  # it preempted a member: nobody joins
    most: float = math.inf  # tokens of one prompt in the next iteration
    busy: float = 0.0
    peak: int = 0  # most blocks held

    @property
    def eta(self) -> float:
        """Tokens that its blocks hold."""
        return BLOCK * self.blocks

    @property
    def decoding(self) -> list[Member]:
        """Members that decode."""
        return [member for member in self.members if member.decoding]

    @property
    def prefilling(self) -> list[Member]:
        """Members that do not yet, in order of admission."""
        return [member for member in self.members if not member.decoding]

    @property
    def asked_tokens(self) -> float:
        """Tokens that its prompts would take of the next iteration if the budget had no end."""
        return sum(min(member.left, self.most) for member in self.prefilling)

    @property
    def leaving_blocks(self) -> int:
        """Blocks of the members that complete now."""
        return 0 if self.cache else sum(member.held for member in self.leaving)

    def know_all(self) -> None:
        """The next composition knows everything up to now."""
        if self.cache:
            for member in self.leaving:
                self.cache.name(member, member.request.prompt + member.request.output - 1)
                self.cache.leave(member)
        self.known, self.leaving, self.quiet = math.inf, [], False

    def know_all_if_idle(self) -> bool:
        """Whether nobody could be composed ahead: then everything is known from now on (not twice)."""
        idle = not self.members and self.known < math.inf
        if idle:
            self.know_all()
        return idle

    def account(self, iteration: Iteration) -> None:
        """Note an iteration that has ended."""
        duration = iteration.end - iteration.start
        self.busy += duration
        if iteration.at_start:
            self.window.time += duration
        if iteration.decoders:
            self.window.iterations += 1
            self.window.member_iterations += len(iteration.decoders)

    @property
    def boundary(self) -> float:
        """When its iteration ends."""
        return math.inf if self.iteration is None else self.iteration.end

    def plan(self, prefill: str, token_budget: float) -> tuple[list[Member], list[tuple[Member, int]]]:
        """Who decodes in the next iteration, and the chunks that are prefilled in it."""
        if prefill == "first":
            if self.prefilling:
                return [], [(member, member.left) for member in self.prefilling]
            return self.decoding, []
        chunks = []
        budget = token_budget - len(self.decoding)
        for member in self.prefilling:
            chunk = int(min(member.left, budget, self.most))
            if chunk <= 0:
                break
            chunks.append((member, chunk))
            budget -= chunk
        return self.decoding, chunks

    def need(self, prefill: str, token_budget: float) -> int:
        """Blocks of the next iteration: of decoding members with their newest token, of prompts with their chunk."""
        if self.cache:
            return self.cache.pool.in_use
        _, chunks = self.plan(prefill, token_budget)
        return self.used(self.decoding, chunks)

    def used(self, decoders: Sequence[Member], chunks: Sequence[tuple[Member, int]]) -> int:
        """Blocks that are held in an iteration with these decoders and chunks."""
        if self.cache:
            return self.cache.pool.in_use
        held = {member: member.held for member in self.members}
        held |= {member: blocks_for(member.context) for member in decoders}
        held |= {member: blocks_for(member.prefilled + chunk) for member, chunk in chunks}
        return sum(held.values())


def started_segment(
    server: Server,
    now: float,
    factor: float,
    overhead_s: float,
    decoders: Sequence[Member],
    chunks: Sequence[tuple[Member, int]],
) -> Segment:
    """The segment that starts now with these decoders and chunks, every duration times ``factor``."""
    batch, kv = len(decoders), sum(member.context for member in decoders)
    if chunks:
        work = [(member.prefilled, chunk) for member, chunk in chunks]
        return Segment(now, factor, overhead_s + chunk_iteration_s(server.profile, batch, kv, work))
    base, slope, end = decode_parts_s(server.profile, batch, kv)
    return Segment(now, factor, overhead_s + base, slope, kv, batch, end)
