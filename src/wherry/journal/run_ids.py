"""Names for runs."""

from __future__ import annotations

import secrets
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_run_id() -> str:
    """18 characters: the time in milliseconds, then 45 random bits.

    Ids sort by their time (within a millisecond at random) until the year 3084. They are hard to guess, but no secret:
    nothing may be granted to whoever knows one.
    """
    value = (time.time_ns() // 1_000_000 & (1 << 45) - 1) << 45 | secrets.randbits(45)
    return "".join(_DIGITS[value >> shift & 31] for shift in range(85, -1, -5))
