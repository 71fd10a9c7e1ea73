"""What a run may spend."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import cast

from wherry.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a run may spend, the agents that it asks and its side calls (summaries, planning) included.

    None means no limit. What a call may take at most is reserved before it is made and settled after it, so that no
    number of agents at work at the same time passes a limit: nine requests are never ten. The last reply before
    `output_tokens` or `usd` run out is asked for with as much output as is left.

    What is *not* guaranteed: a server that reports more input tokens than were counted, or writes more than it was
    allowed, has spent them; the next call is then refused.

    Raises:
        ConfigurationError: a negative or endless number, or none at all.
    """

    _: KW_ONLY
    usd: Decimal | float | str | None = None
    """US dollars, at list price or the price that the model was told. A run whose model has no known price does not
    start under this limit."""
    input_tokens: int | None = None
    """Prompt tokens, cached ones included."""
    output_tokens: int | None = None
    requests: int | None = None
    """Requests to models, failed ones included."""
    tool_calls: int | None = None
    """Calls of tools and of managed agents."""
    seconds: float | None = None
    """Wall time of the run."""

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens", "requests", "tool_calls"):
            _check_count(name, cast("object", getattr(self, name)))
        seconds = cast("object", self.seconds)
        if seconds is not None and not _is_time(seconds):
            raise ConfigurationError(f"the limit seconds is {seconds!r}", hint="give seconds above 0, or None")
        if self.usd is not None:
            object.__setattr__(self, "usd", _dollars(self.usd))

    @property
    def dollars(self) -> Decimal | None:
        """`usd`, as it was written: 0.1 is a tenth of a dollar, not the binary fraction nearest to it."""
        return None if self.usd is None else _dollars(self.usd)

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return any(
            limit is not None
            for limit in (
                self.usd,
                self.input_tokens,
                self.output_tokens,
                self.requests,
                self.tool_calls,
                self.seconds,
            )
        )


def _check_count(name: str, value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return
    raise ConfigurationError(f"the limit {name} is {value!r}", hint="give a whole number from 0, or None for no limit")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0


def _dollars(value: object) -> Decimal:
    try:
        if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
            raise InvalidOperation  # noqa: TRY301 - one message for whatever is no amount
        amount = value if isinstance(value, Decimal) else Decimal(str(value))
        if amount.is_finite() and amount >= 0:
            return amount
    except InvalidOperation:
        pass
    raise ConfigurationError(f"the limit usd is {value!r}", hint="give an amount of dollars from 0, or None")
