"""The servers of a simulation, from what a person writes: ``NAME`` or ``A:2,B:2``."""

from __future__ import annotations

from pathlib import Path

from llmsched_env.config import Server
from llmsched_env.core.constants import MAX_SERVERS
from llmsched_env.profiles import Profile, load_profile, shipped_profiles


def parse_servers(profile_text: str, servers: int | None = None, kv_tokens: float | None = None) -> tuple[Server, ...]:
    """Servers described by ``profile_text``, in the order written.

    ``"NAME"`` (a shipped profile or a JSON file) gives ``servers`` copies, one if ``servers`` is None.
    ``"A:2,B:2"`` gives two of each; then ``servers`` must be None or the same total.  ``kv_tokens``
    replaces the KV capacity of every profile (tokens, ``inf`` for no limit).  Raises ``ValueError``.
    """
    if servers is not None and (servers != int(servers) or not 1 <= servers <= MAX_SERVERS):
        raise ValueError(f"servers={servers!r} is not allowed: give a whole number from 1 to {MAX_SERVERS}.")
    if _is_one_profile(profile_text):
        groups = [(profile_text, 1 if servers is None else int(servers))]
    else:
        groups = [_group(part) for part in profile_text.split(",")]
    total = sum(count for _, count in groups)
    if servers is not None and total != servers:
        raise ValueError(f"servers={servers} contradicts the profile {profile_text!r}, which counts {total}: drop one.")
    if total > MAX_SERVERS:
        raise ValueError(f"profile {profile_text!r} counts {total} servers: at most {MAX_SERVERS} are possible.")
    return tuple(Server(profile, kv_tokens) for name, count in groups for profile in [load_profile(name)] * count)


def _is_one_profile(text: str) -> bool:
    return text in shipped_profiles() or Path(text).is_file() or not (":" in text or "," in text)


def _group(part: str) -> tuple[str, int]:
    name, colon, count = part.strip().rpartition(":")
    if not colon:
        return part.strip(), 1
    if not count.strip().isdecimal() or int(count) < 1:
        raise ValueError(f"profile {part.strip()!r}: {count!r} is not a number of servers of at least 1.")
    return name.strip(), int(count)


def gpu_of(profile: Profile) -> str:
    """Name of the GPU that a profile was measured on; empty where it does not say."""
    return str(profile.meta.get("gpu", ""))
