"""What runs use, added up over the tree of them."""

from __future__ import annotations

from wherry.messages import Usage
from wherry.models import ModelProfile, ModelReply
from wherry.models.pricing import cost


class Meter:
    """What a run has used, its managed agents included: every record goes up to the root."""

    __slots__ = ("_parent", "usage")

    def __init__(self, parent: Meter | None = None) -> None:
        self._parent = parent
        self.usage = Usage()

    def add(self, usage: Usage) -> None:
        meter: Meter | None = self
        while meter is not None:
            meter.usage += usage
            meter = meter._parent


def usage_of(reply: ModelReply, input_tokens: int, output_tokens: int, seconds: float, profile: ModelProfile) -> Usage:
    """What one request took: what the server says, else the given counts; at the list price, if that is known."""
    told = reply.usage or Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    price = cost(told, profile.price_key)
    return Usage(1, told.input_tokens, told.cached_tokens, told.output_tokens, 0, seconds, price)
