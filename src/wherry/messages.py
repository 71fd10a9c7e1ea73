"""What is said: messages, tool calls, tool schemas and what a model call used.

Frozen records with one canonical byte form, so that a message can be stored once under its digest
and shown again byte for byte. Nothing here knows of models, agents or stores.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast, get_args

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""A value that JSON can carry."""

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


# Made once: `json.dumps` makes an encoder at every call, and `JSONEncoder.encode` half of one: together that is half of
# what a small value costs. Without the look for cycles: they end in RecursionError all the same.
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)
_make_encoder: Any = getattr(json.encoder, "c_make_encoder", None)  # Any: not in the stubs; None without the C module
_iterencode: Callable[[object, int], Iterable[str]] | None = _make_encoder and _make_encoder(
    None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", True, False, True
)


def canonical(value: object) -> bytes:
    """The one byte form of a JSON value: sorted keys, no blanks, UTF-8, lone surrogates kept.

    Raises:
        TypeError: `value` holds something that JSON cannot carry.
        RecursionError: It is nested too deeply, or holds itself.
    """
    text = _encoder.encode(value) if _iterencode is None else "".join(_iterencode(value, 0))
    return text.encode("utf-8", "surrogatepass")


def parse(data: bytes) -> Any:  # Any: what was stored is only known to the caller
    """The JSON value of `canonical` bytes."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def digest(data: bytes) -> str:
    """The SHA-256 of `data` as 64 hexadecimal digits: the name that content is stored under."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish that a tool be called."""

    id: str
    """Names this call within its conversation; the result carries it back."""
    name: str
    arguments: Mapping[str, Any]  # Any: JSON, checked by the tool's own schema
    """By parameter name, as JSON values."""

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "arguments": dict(self.arguments)}


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message: its bytes, or an address that the model's server fetches."""

    media_type: str = "image/png"
    _: KW_ONLY
    data: bytes = b""
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        if self.url is not None:
            return {"media_type": self.media_type, "url": self.url}
        return {"media_type": self.media_type, "data": b64encode(self.data).decode()}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Raises:
        ValueError: `role` is none of the four.
    """

    role: Role
    content: str = ""
    _: KW_ONLY
    tool_calls: Sequence[ToolCall] = ()
    """What an assistant's message asks for; stored as a tuple."""
    tool_call_id: str | None = None
    """In a message of role `tool`: the call that it answers."""
    name: str | None = None
    """Who speaks, where several do; in a tool's message, the tool."""
    images: Sequence[Image] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is none of {', '.join(ROLES)}")
        if type(self.tool_calls) is not tuple:
            object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        if type(self.images) is not tuple:
            object.__setattr__(self, "images", tuple(self.images))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; fields that hold their default are left out."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            out["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            out["name"] = self.name
        if self.images:
            out["images"] = [image.to_json() for image in self.images]
        return out

    def encode(self) -> bytes:
        """The canonical bytes, as stored. `digest(message.encode())` is the message's name."""
        return canonical(self.to_json())

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """The message that `encode` made the bytes of."""
        return cls.from_json(cast("dict[str, Any]", parse(data)))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Message:
        return cls(
            raw["role"],
            raw["content"],
            tool_calls=[ToolCall(c["id"], c["name"], c["arguments"]) for c in raw.get("tool_calls", ())],
            tool_call_id=raw.get("tool_call_id"),
            name=raw.get("name"),
            images=[
                Image(i["media_type"], data=b64decode(i.get("data", "")), url=i.get("url"))
                for i in raw.get("images", ())
            ],
        )


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """What a model is told of a tool."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # Any: JSON Schema
    """JSON Schema of an object: one property a parameter."""
    returns: Mapping[str, Any] | None = None
    """JSON Schema of the result, where it is known; not sent to a model's native tool interface."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "returns": self.returns,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ToolSchema:
        return cls(raw["name"], raw["description"], raw["parameters"], raw.get("returns"))


@dataclass(frozen=True, slots=True)
class Usage:
    """What was spent. Records add up: `a + b`, `sum(usages, Usage())`."""

    requests: int = 0
    input_tokens: int = 0
    """All prompt tokens, cached ones included."""
    cached_tokens: int = 0
    """The part of `input_tokens` that the server took from its prompt cache."""
    output_tokens: int = 0
    tool_calls: int = 0
    seconds: float = 0.0
    """Wall time."""
    usd: Decimal | None = Decimal(0)
    """Cost in US dollars; None when a price is unknown, so that no sum claims more than is known."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.tool_calls + other.tool_calls,
            self.seconds + other.seconds,
            None if self.usd is None or other.usd is None else self.usd + other.usd,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "tool_calls": self.tool_calls,
            "seconds": round(self.seconds, 6),
            "usd": None if self.usd is None else str(self.usd),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Usage:
        usd = raw.get("usd")
        return cls(
            raw["requests"],
            raw["input_tokens"],
            raw["cached_tokens"],
            raw["output_tokens"],
            raw["tool_calls"],
            raw["seconds"],
            None if usd is None else Decimal(usd),
        )
