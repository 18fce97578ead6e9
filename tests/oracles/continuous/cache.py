"""The prefix cache of a server, block by block (docs/reference/continuous.md, 11. Prefix cache)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from llmsched_env.requests import Requests

BLOCK = 16
Key = Hashable


class Contents:
    """What the blocks of every request are: keys by request and place in its sequence."""

    def __init__(self, requests: Requests, rows: Sequence[int]) -> None:
        self.rows = rows  # of the requests in order of arrival
        self.hashes = [] if requests.hashes is None else requests.hashes.tolist()
        self.covered = [0] * len(requests) if requests.hashed_tokens is None else requests.hashed_tokens.tolist()
        self.span = requests.hash_tokens
        self.begin = [0]
        for covered in self.covered:
            self.begin.append(self.begin[-1] + -(-covered // self.span))

    def key(self, request: int, block: int) -> Key:
        """The key of a block: its hash and its place in that, or one that no other request has."""
        request = self.rows[request]
        if BLOCK * (block + 1) > self.covered[request]:
            return ("own", request, block)
        token = BLOCK * block
        return (self.hashes[self.begin[request] + token // self.span], token % self.span)


class Pool:
    """The blocks of a server."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.unnamed = list(range(size))  # free ones in the order in which they are taken: first these,
        self.queue: list[int] = []  # then these, which have a name
        self.refs = [0] * size
        self.name_of: dict[int, Key] = {}
        self.named: dict[Key, list[int]] = {}  # blocks of a name in the order in which they were named
        self.evicted = self.looked_up = self.cached = self.recomputed = 0

    @property
    def free(self) -> int:
        """Blocks that no member refers to."""
        return len(self.unnamed) + len(self.queue)

    @property
    def in_use(self) -> int:
        """The others."""
        return self.size - self.free

    def take(self) -> int:
        """A free block, for one member."""
        if self.unnamed:
            block = self.unnamed.pop(0)
        else:
            block = self.queue.pop(0)
            self.named[self.name_of.pop(block)].remove(block)
            self.evicted += 1
        self.refs[block] = 1
        return block

    def refer(self, block: int) -> None:
        """One more member refers to a block."""
        if self.refs[block] == 0:
            self.queue.remove(block)
        self.refs[block] += 1

    def give_back(self, table: Sequence[int]) -> None:
        """A member does not refer to the blocks of its table any more."""
        released = []
        for block in reversed(table):
            self.refs[block] -= 1
            if self.refs[block] == 0:
                released.append(block)
        self.queue += [block for block in released if block in self.name_of]
        self.unnamed = [block for block in released if block not in self.name_of] + self.unnamed

    def find(self, key: Key) -> int | None:
        """The block of this name that was named first."""
        blocks = self.named.get(key)
        return blocks[0] if blocks else None

    def give_name(self, block: int, key: Key) -> None:
        """The block, which has no name, gets one."""
        assert block not in self.name_of
        self.name_of[block] = key
        self.named.setdefault(key, []).append(block)


class Cache:
    """A pool, and what its members do with it."""

    def __init__(self, size: int, contents: Contents) -> None:
        self.pool = Pool(size)
        self.contents = contents
        self.lacked: Key | None = None  # the name that the refused request lacks

    def find(self, number: int, prompt: int) -> list[int]:
        """The blocks that a request finds, which has ``prompt`` tokens to prefill."""
        found: list[int] = []
        while len(found) < (prompt - 1) // BLOCK:
            block = self.pool.find(self.contents.key(number, len(found)))
            if block is None:
                break
            found.append(block)
        return found

    def missing(self, number: int, prompt: int, room_for: int) -> int:
        """Free blocks that ``room_for`` tokens of the prompt need, those that it finds included."""
        found = self.find(number, prompt)
        return -(-room_for // BLOCK) - sum(self.pool.refs[block] > 0 for block in found)

    def admit(self, member: Any, budget: float) -> None:
        """A member joins; ``budget`` tokens are left for its first chunk."""
        pool, number = self.pool, member.request.number
        member.table = self.find(number, member.prompt)
        for block in member.table:
            pool.refer(block)
        member.named, member.prefilled = len(member.table), BLOCK * len(member.table)
        member.request.cached += member.prefilled
        pool.looked_up += member.prompt
        pool.cached += member.prefilled
        pool.recomputed += member.left if member.request.returned else 0
        end = member.prefilled + int(min(member.left, budget))
        self.hold(member, end)
        self.name(member, end)

    def note_refusal(self, request: Any) -> None:
        """Remember the name that a request lacks which A3 alone keeps out."""
        found = len(self.find(request.number, request.context))
        if found < (request.context - 1) // BLOCK:
            self.lacked = self.contents.key(request.number, found)

    def hold(self, member: Any, tokens: int) -> None:
        """A member takes blocks until it has room for so many tokens."""
        while len(member.table) < -(-tokens // BLOCK):
            member.table.append(self.pool.take())

    def lacks(self, member: Any, tokens: int) -> int:
        """Blocks that a member would have to take for so many tokens."""
        return max(0, -(-tokens // BLOCK) - len(member.table))

    def name(self, member: Any, tokens: int) -> list[Key]:
        """A member names the blocks that lie wholly in its first ``tokens``; their keys."""
        keys = []
        while member.named < tokens // BLOCK:
            keys.append(self.contents.key(member.request.number, member.named))
            self.pool.give_name(member.table[member.named], keys[-1])
            member.named += 1
        return keys

    def leave(self, member: Any) -> None:
        """A member gives its blocks back."""
        self.pool.give_back(member.table)
        member.table, member.named = [], 0
