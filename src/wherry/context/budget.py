"""What a user may set of the context bound."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from wherry.errors import ConfigurationError
from wherry.models.protocol import Model

DEFAULT_WINDOW = 8_192
"""Assumed where neither the user nor the model's server says: small enough for every current model."""


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """How much room an agent's requests may take, and what is done as it runs out.

    Every request satisfies, in tokens:
    system + tool schemas + messages + reserved output + safety margin <= window.

    Raises:
        ConfigurationError: A value makes no sense. The message says which.
    """

    window: int | None = None
    """Context length of one request, prompt and output together; None: what the model's profile says."""
    _: KW_ONLY
    reserve_output: int | None = None
    """Tokens kept free for the reply, and sent as its limit; None: the profile's, at most a quarter of the window."""
    per_message: int | None = None
    """Most tokens of one message; more is offloaded. None: a quarter of what the input may take."""
    high_water: float = 0.85
    """Share of the input budget beyond which older turns are folded into the summary."""
    low_water: float = 0.50
    """Share of the input budget that folding goes down to."""
    compaction: Literal["summary", "extract"] = "summary"
    """Who writes the summary: a model, or the deterministic extract, which also stands in whenever the model fails."""
    summarizer: Model | None = None
    """The model that writes summaries; None: the one that the run is on, if its profile says that it `writes_summaries`
    (scripted models do not)."""

    def __post_init__(self) -> None:
        for field in ("window", "reserve_output", "per_message"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigurationError(f"{field}={value!r} is no number of tokens: it must be a whole number from 1")
        if not 0 < self.low_water < self.high_water <= 1:
            raise ConfigurationError(
                f"low_water={self.low_water!r} and high_water={self.high_water!r} must satisfy "
                "0 < low_water < high_water <= 1"
            )
        if self.compaction not in ("summary", "extract"):
            raise ConfigurationError(f"compaction={self.compaction!r} is neither 'summary' nor 'extract'")
        if self.window is not None and self.reserve_output is not None and self.reserve_output >= self.window:
            raise ConfigurationError(
                f"reserve_output={self.reserve_output} leaves no room for input in window={self.window}",
                hint="a quarter of the window is a usual reserve",
            )
