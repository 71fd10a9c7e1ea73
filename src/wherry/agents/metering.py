"""What requests cost: the price of one that was made, and of one that may be."""

from __future__ import annotations

from decimal import Decimal

from wherry.messages import Usage
from wherry.models import ModelProfile, ModelReply
from wherry.models.pricing import cost
from wherry.policy.account import Pricing


def usage_of(reply: ModelReply, input_tokens: int, output_tokens: int, seconds: float, profile: ModelProfile) -> Usage:
    """What one request took: what the server says, else the given counts; at the list price, if that is known."""
    told = reply.usage or Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    price = cost(told, profile.price_key)
    return Usage(1, told.input_tokens, told.cached_tokens, told.output_tokens, 0, seconds, price)


def pricing(profile: ModelProfile) -> Pricing:
    """The price of a request to this model that takes so many tokens, none of them cached."""

    def price(input_tokens: int, output_tokens: int) -> Decimal | None:
        return cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens), profile.price_key)

    return price
