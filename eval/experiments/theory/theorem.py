"""The Multi-Bin theorem in numbers (arXiv 2412.04504): throughput of one saturated server with full batches.

Outputs are uniform on l_min..l_max, k bins have equal mass and are known exactly, a batch of B takes as long as its
longest output: (l_max + l_min)/2 + (B-1)/(B+1) (l_max - l_min)/(2k) tokens in the mean.
"""

from __future__ import annotations

SHORTEST, LONGEST = 1, 1000
"""The lengths of the generator ``uniform``, tokens."""

TOKEN_S = 0.001
"""Time of a token of the profile ``ideal``."""


def throughput(bins: int, batch: int) -> float:
    """Requests per second as published, for ``bins`` bins and batches of ``batch``."""
    middle = (SHORTEST + LONGEST) / 2.0
    spread = (batch - 1) / (batch + 1) * (LONGEST - SHORTEST) / (2.0 * bins)
    return batch / (TOKEN_S * (middle + spread))


def whole_tokens(bins: int, batch: int) -> float:
    """The same without approximations: lengths are whole numbers, and every bin holds a whole number of lengths.

    The longest of B of the m values s+1 ... s+m has the mean s + m - sum of (j/m)^B over j < m.
    """
    total, mean = LONGEST - SHORTEST + 1, 0.0
    for k in range(bins):
        first, last = SHORTEST - 1 + total * k // bins, SHORTEST - 1 + total * (k + 1) // bins
        m = last - first
        mean += (last - sum((j / m) ** batch for j in range(m))) * m / total
    return batch / (TOKEN_S * mean)


def limit(batch: int) -> float:
    """Requests per second in the limit of many bins: every batch has requests of one length."""
    return batch / (TOKEN_S * (SHORTEST + LONGEST) / 2.0)
