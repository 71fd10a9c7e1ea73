"""What a request costs, by the list prices that the genai-prices package carries."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from wherry.messages import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

FREE = "free"
"""The price key of a model that costs nothing."""


def cost(usage: Usage, price_key: str | None) -> Decimal | None:
    """The price of a usage in US dollars.

    Args:
        usage: Input tokens include the cached ones, which have a price of their own.
        price_key: `"provider/model"`, or a model's name alone; `"free"`; None when it is not known.

    Returns:
        None when the price is not known: no key, a model that is not in the list, or no list installed.
    """
    if price_key == FREE:
        return Decimal(0)
    if price_key is None:
        return None
    found = _find(price_key)
    if found is None:
        return None
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    provider, model = found
    try:
        priced = calc_price(
            PricedUsage(
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
            ),
            model_ref=model.id,
            provider_id=provider,
        )
    except (LookupError, ValueError):  # no price for this moment, or for these units
        return None
    return priced.total_price


def listed_window(price_key: str | None) -> int | None:
    """The context length that the list has for a model."""
    if price_key is None or price_key == FREE:
        return None
    found = _find(price_key)
    return None if found is None else found[1].context_window


@lru_cache(maxsize=256)
def _find(price_key: str) -> tuple[str, ModelInfo] | None:
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return None
    provider, slash, model = price_key.partition("/")
    for ref, provider_id in ((model, provider), (price_key, None)) if slash else ((price_key, None),):
        try:
            found_provider, found = get_snapshot().find_provider_model(ref, None, provider_id, None)
        except LookupError:
            continue
        return found_provider.id, found
    return None
