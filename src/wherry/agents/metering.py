"""What requests take and cost: those that were made, those that failed, and those that may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import cast

from wherry.errors import ConfigurationError, ModelError
from wherry.messages import Usage
from wherry.models import FailureKind, Model, ModelProfile, ModelReply
from wherry.models.pricing import cost
from wherry.policy import Account, Reservation
from wherry.policy.account import Pricing


def usage_of(reply: ModelReply, input_tokens: int, output_tokens: int, seconds: float, profile: ModelProfile) -> Usage:
    """What one request took: what the server says, else the given counts; at the list price, if that is known."""
    told = reply.usage or Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    # A model of a user's own may say anything: nothing below 0, and no more from the cache than there was.
    whole = max(0, told.input_tokens)
    told = Usage(
        input_tokens=whole,
        cached_tokens=min(whole, max(0, told.cached_tokens)),
        output_tokens=max(0, told.output_tokens),
    )
    price = cost(told, profile.price_key)
    return Usage(1, told.input_tokens, told.cached_tokens, told.output_tokens, 0, seconds, price)


UNKNOWN_ENDINGS = frozenset({FailureKind.Timeout, FailureKind.ConnectionLost})
"""Failures after which the server may have done, and charged, all of the work."""


def end_failed(reservation: Reservation, error: BaseException, seconds: float, profile: ModelProfile) -> None:
    """End the reservation of a request that failed: refused ones took nothing but the request itself."""
    if isinstance(error, ModelError) and error.kind not in UNKNOWN_ENDINGS:
        reservation.settle(Usage(requests=1, seconds=seconds))
    else:
        free = pricing(profile)(1_000_000, 1_000_000) == 0
        reservation.lose(Usage(requests=1, seconds=seconds, usd=Decimal(0) if free else None))


def check_prices(account: Account, models: Iterable[Model]) -> None:
    """Refuse to begin under a limit in dollars with a model whose price nobody knows.

    Raises:
        ConfigurationError: there is one.
    """
    if not account.limits_usd:
        return
    for model in models:
        for one in behind(model):
            if pricing(one.profile)(1, 1) is None:
                raise ConfigurationError(
                    f"the run has a limit in dollars, and no price is known of the model {one.profile.name!r}",
                    hint="give the model `price_key=Price(input=..., output=...)`, or limit requests and tokens",
                )


def behind(model: Model) -> Iterator[Model]:
    """The models that may really be asked, behind all layers."""
    others = getattr(model, "models", None)
    if isinstance(others, Sequence) and others:
        for other in cast("Sequence[Model]", others):
            yield from behind(other)
    elif (inner := getattr(model, "model", None)) is not None and hasattr(model, "route"):
        yield from behind(cast("Model", inner))
    else:
        yield model


def count_alike(model: Model) -> bool:
    """Whether all models that may be asked have one tokenizer, as far as is known."""
    if not hasattr(model, "route"):  # most: asked at every step
        return True
    first, *others = [one.profile for one in behind(model)]
    known = first.counter != "bytes"  # an estimate stands for any tokenizer
    return all(one.counter == first.counter and (known or one.name == first.name) for one in others)


def pricing(profile: ModelProfile) -> Pricing:
    """The price of a request to this model that takes so many tokens, none of them cached."""

    def price(input_tokens: int, output_tokens: int) -> Decimal | None:
        return cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens), profile.price_key)

    return price
