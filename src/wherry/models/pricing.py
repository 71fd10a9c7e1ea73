"""What a request costs: at the price that the user gave, else by the list that the genai-prices package carries."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from wherry.errors import ConfigurationError
from wherry.messages import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

FREE = "free"
"""The price key of a model that costs nothing."""


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model that no list knows, or that is not paid at the list price.

    Amounts are US dollars for a million tokens; floats are taken as they are written, 0.15 as fifteen hundredths.

    Raises:
        ConfigurationError: an amount below 0, or none.
    """

    _: KW_ONLY
    input: Decimal | float | str
    output: Decimal | float | str
    cached: Decimal | float | str | None = None
    """Of input tokens that the server had in its prompt cache; None: as `input`."""

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached"):
            self._amount(name)

    def of(self, usage: Usage) -> Decimal:
        """The price of a usage in US dollars."""
        fresh = usage.input_tokens - usage.cached_tokens
        whole = fresh * self._amount("input") + usage.cached_tokens * self._amount("cached")
        return (whole + usage.output_tokens * self._amount("output")) / 1_000_000

    def _amount(self, name: str) -> Decimal:
        given: object = getattr(self, name)
        if name == "cached" and given is None:
            given = self.input
        try:
            amount = Decimal(str(given))
        except ArithmeticError:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            raise ConfigurationError(
                f"the price of {name} tokens is {given!r}", hint="give US dollars for a million tokens, from 0"
            )
        return amount


def cost(usage: Usage, price_key: str | Price | None) -> Decimal | None:
    """The price of a usage in US dollars.

    Args:
        usage: Input tokens include the cached ones, which have a price of their own.
        price_key: A price; `"provider/model"`, or a model's name alone; `"free"`; None when it is not known.

    Returns:
        None when the price is not known: no key, a model that is not in the list, or no list installed.
    """
    if isinstance(price_key, Price):
        return price_key.of(usage)
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


def listed_window(price_key: str | Price | None) -> int | None:
    """The context length that the list has for a model."""
    if price_key is None or price_key == FREE or isinstance(price_key, Price):
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
