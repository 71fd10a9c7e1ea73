"""What a tool, an agent or an input may be called."""

from __future__ import annotations

import re
from keyword import iskeyword

from wherry.errors import ConfigurationError
from wherry.tools.values import brief

RESERVED = frozenset({"final_answer"})
"""Names that are the agents' own."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What every provider's interface and Python itself take as a function's name."""


def check_name(name: object, what: str = "this") -> str:
    """`name`, if a snippet and every provider's interface can use it for a function or a variable.

    Raises:
        ConfigurationError: It is no identifier that every provider takes, a keyword, or an agent's own name.
    """
    hint = "letters, digits and _, at most 64, as in `smallest_prime_factor`"
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{what} needs a name, not {brief(name, 80)}", hint=hint)
    if not _NAME.fullmatch(name) or iskeyword(name):
        raise ConfigurationError(f"{brief(name, 80)} cannot be a name", hint=hint)
    if name in RESERVED:
        raise ConfigurationError(f"the name `{name}` is taken: every agent has its own", hint="choose another name")
    return name
