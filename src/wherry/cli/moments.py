"""Times and ages as people write them."""

from __future__ import annotations

import re
import time
from datetime import datetime

from wherry.errors import ConfigurationError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(\d{1,9}(?:\.\d+)?)([smhdw])")


def age(text: str) -> float:
    """A span of time in seconds: `30m`, `12h`, `7d`, `2w`.

    Raises:
        ConfigurationError: it is none.
    """
    seconds = _span(text)
    if seconds is None:
        raise ConfigurationError(f"{text!r} is no age", hint="write 12h, 90d or 26w")
    return seconds


def moment(text: str) -> float:
    """A point in time, as unix seconds: an ISO date or time, or a span before now (`30m`, `12h`, `7d`, `2w`).

    Raises:
        ConfigurationError: it is neither.
    """
    seconds = _span(text)
    if seconds is not None:
        return time.time() - seconds
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"{text!r} is no time", hint="give 30m, 12h, 7d, 2w, or a date like 2026-11-01"
        ) from None


def _span(text: str) -> float | None:
    found = _SPAN.fullmatch(text.strip().lower())
    return None if found is None else float(found[1]) * _UNITS[found[2]]
