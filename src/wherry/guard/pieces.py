"""What a conversation of dicts is made of, read: messages with what they take, and what they were read from."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias, cast

from wherry.context.groups import Entry
from wherry.errors import ConfigurationError
from wherry.messages import Message, canonical

Dict: TypeAlias = Mapping[str, Any]  # Any: JSON of other programs, with whatever keys they have


@dataclass(slots=True)
class Piece(Entry):
    """A message of the conversation, or a part of one: Anthropic puts results and what a user says into one message."""

    _: KW_ONLY
    raw: Dict | None = None
    """The dict that says it; None: it is written from `message`."""
    source: Dict | None = None
    """The message of the conversation that it is all or a part of, as it was given."""
    read: Message | None = None
    """What `raw` was read as; another `message` than this one was made shorter."""
    spoken: bool = False
    """Whether a user said it: not a result without its call, nor a summary."""
    of: int = 1
    """How many pieces make up `source`."""
    index: int = -1
    """Where `source` stands in what was given; -1: nowhere."""

    @property
    def changed(self) -> bool:
        return self.raw is None or self.message is not self.read


@dataclass(frozen=True, slots=True)
class Part:
    """What a dialect reads out of one dict."""

    message: Message
    raw: Dict
    unknown: tuple[str, ...] = ()
    """Texts of `raw` that `message` does not hold and a server may render."""
    more: int = 0
    """Tokens of what is no text and no picture."""
    stays: tuple[str, ...] = ()
    """Texts besides that stay however short the message is made."""
    of: int = 1
    """Into how many parts its dict was read; 0: none of them, nor all together, is the dict as it came."""


Mended: TypeAlias = str
"""What had to be mended in a dict, in words."""


class Dialect(Protocol):
    """How one provider's API writes messages as dicts."""

    name: str

    def parts(self, raw: Dict) -> tuple[Sequence[Part], Sequence[Mended]]:
        """What a dict says. `raw` of a part is the dict itself where nothing had to be mended."""
        ...

    def join(self, pieces: Sequence[Piece]) -> Dict:
        """Messages of one role as one."""
        ...

    def write(self, pieces: Sequence[Piece]) -> list[tuple[Dict, Sequence[Piece]]]:
        """The dicts for a conversation, each with the pieces it is made of; those that did not change as they came."""
        ...


def key_of(value: object, before: bytes = b"") -> bytes:
    """A digest of JSON-like data, to know it again by: by value, since programs change their dicts in place.

    Args:
        before: The digest of what it follows, for one of both.

    Raises:
        ConfigurationError: It is nested so deeply that no server would read it.
    """
    try:
        # Version 2 has no references, so that equal values have equal bytes. Any: what it cannot carry raises.
        data = marshal.dumps(cast("Any", value), 2)
    except ValueError:
        data = _canonical(value)
    return blake2b(before + data, digest_size=16).digest()


def _canonical(value: object) -> bytes:
    try:
        return canonical(_plain(value))
    except RecursionError:
        raise ConfigurationError(
            "a message holds lists or objects that are nested too deeply", hint="no server reads hundreds of levels"
        ) from None


def _plain(value: object) -> object:
    """JSON of what is nearly JSON: subclasses, tuples, objects of a program's own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast("Dict", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, str):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float) else repr(value)


def as_dict(value: object) -> Dict:
    """`value`, or nothing where it is no dict."""
    return cast("Dict", value) if isinstance(value, Mapping) else {}


Count: TypeAlias = Callable[[Part], int]
