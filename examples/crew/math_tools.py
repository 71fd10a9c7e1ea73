"""The crew's own tools: a class, and two decorated functions."""

from __future__ import annotations

import math

from wherry import Tool, tool


class PrimeTool(Tool):
    """Tells whether a number is prime by its smallest prime factor."""

    name = "smallest_prime_factor"
    description = "The smallest prime factor of n. A prime number is its own smallest prime factor."
    inputs = {"n": {"type": "integer", "description": "2 or more"}}
    output_type = "integer"

    def forward(self, n: int) -> int:
        if n < 2:
            raise ValueError(f"n is {n}; it must be 2 or more")
        for factor in range(2, math.isqrt(n) + 1):
            if n % factor == 0:
                return factor
        return n


@tool
def factorial(n: int) -> int:
    """The product of the whole numbers from 1 to n.

    Args:
        n: 0 to 1,000
    """
    if not 0 <= n <= 1000:
        raise ValueError(f"n is {n}; it must be from 0 to 1,000")
    return math.factorial(n)


@tool
def celsius_to_fahrenheit(celsius: float) -> float:
    """Convert a temperature.

    Args:
        celsius: degrees Celsius
    """
    return celsius * 9 / 5 + 32
