"""How many tokens a request takes, as its server will count it."""

from __future__ import annotations

import json
import math
import re
import struct
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from wherry.context.estimate import estimate
from wherry.context.templates import TEMPLATES, UNKNOWN, ChatTemplate
from wherry.errors import MissingExtra
from wherry.messages import Image, Message, ToolSchema
from wherry.models.protocol import ModelProfile

_PIECE = 262_144
"""Characters that are given to a tokenizer at once: 10 MB without a blank stay linear in time and flat in memory."""

LARGEST_IMAGE, _PIXELS_A_TOKEN = 1_600, 750
"""Claude counts width x height / 750 and at most about 1,600; OpenAI at most 1,445 (gpt-4o); Qwen-VL pixels / 784."""

_RECENT = 16
MOST_RATIO = 4.0
"""A report beyond this is nonsense rather than news."""
MOST_EXACT_RATIO = 1.3
"""A vocabulary's own count is never raised by more: what a server adds unseen does not grow with the prompt."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


# Made once: `json.dumps` makes an encoder at every call, half of what a few arguments cost.
_compact = json.JSONEncoder(ensure_ascii=False, default=str).encode


@lru_cache(maxsize=8)
def _tokenizer(encoding: str) -> Callable[[str], int]:
    try:
        import quicktok
    except ImportError:
        raise MissingExtra(f"counting with {encoding!r}", "openai") from None
    return cast("Callable[[str], int]", quicktok.get_encoding(encoding).count)  # pyright: ignore[reportUnknownMemberType]


def _exact(encoding: str, text: str) -> int:
    count = _tokenizer(encoding)
    if len(text) <= _PIECE and text.isascii():
        return count(text) if text else 0
    total = 0
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        if not piece.isascii():
            lone = len(_SURROGATE.findall(piece))
            if lone:  # sent as U+FFFD or as three bytes, depending on the client
                total += 3 * lone
                piece = _SURROGATE.sub("", piece)
            if not unicodedata.is_normalized("NFC", piece):
                # Qwen's tokenizer composes characters first, llama.cpp's of the same name does not: the bytes are a
                # bound for both, but for the three that composing makes longer.
                total += 2 * sum(len(run.encode()) for run in _NOT_ASCII.findall(piece))
                piece = _NOT_ASCII.sub(" ", piece)
        total += count(piece)
    return total


_COUNTED: dict[tuple[int, int, bool], tuple[ToolSchema, int]] = {}
_MOST_COUNTED = 4096


class TokenCounter:
    """Counts texts, messages and tool schemas; learns from what the server reports.

    * Never raises, whatever the text, and never downloads anything.
    * `exact` counters know the model's vocabulary; the others estimate from above.
    """

    def __init__(self, template: ChatTemplate, text: Callable[[str], int], *, exact: bool, shared: bool = True) -> None:
        self._template = template
        self._shared = shared
        """Whether other counters of the same vocabulary count alike: not a user's function."""
        self._text = text
        self.exact = exact
        """Whether texts are counted with the model's own vocabulary."""
        self._last: tuple[Message, int] | None = None
        self._ratios: deque[float] = deque(maxlen=_RECENT)
        self.ratio = 1.0
        """The largest recent ratio of reported to counted tokens, never below 1."""

    @classmethod
    def for_profile(cls, profile: ModelProfile) -> TokenCounter:
        """The best counter for a model that can be had here without a download."""
        counter = profile.counter
        if callable(counter):
            return cls(UNKNOWN, _guarded(counter), exact=True, shared=False)
        template = TEMPLATES.get(counter, UNKNOWN)
        if template.encoding is not None:
            encoding = template.encoding
            try:
                _tokenizer(encoding)
            except MissingExtra:
                return cls(template, estimate, exact=False)
            return cls(template, lambda text: _exact(encoding, text), exact=True)
        return cls(template, estimate, exact=False)

    def text(self, text: str) -> int:
        """Tokens of a text alone."""
        return self._text(text)

    def message(self, message: Message) -> int:
        """Tokens of a message with all that the chat template puts around it."""
        last = self._last
        if last is None or last[0] is not message:  # a reply without usage is counted for that, then taken in
            last = self._last = message, self._counted(message)
        return last[1]

    def _counted(self, message: Message) -> int:
        template, count = self._template, self._text
        total = template.message + count(message.content)
        if message.name is not None and (message.role != "tool" or not template.known):
            total += count(message.name) + 1
        if message.role == "tool":
            total += template.tool_result
            if template.call_ids and message.tool_call_id:
                total += count(message.tool_call_id)
        for call in message.tool_calls:
            total += template.tool_call + count(call.name) + self._json(call.arguments)
            if template.call_ids:
                total += count(call.id)
        for image in message.images:
            total += image_tokens(image)
        return total

    def tools(self, tools: Sequence[ToolSchema]) -> int:
        """Tokens of the tool schemas as a request carries them."""
        if not tools:
            return 0
        return self._template.tools + sum(self.tool(tool) for tool in tools)

    def tool(self, tool: ToolSchema) -> int:
        """Tokens of one schema."""
        if not self._shared:
            return self._rendered(tool)
        # A tool has one schema object for its life, and a thousand runs count it. The object is held, so that its id
        # is not given to another.
        key = (id(tool), id(self._template), self.exact)
        held = _COUNTED.get(key)
        if held is None:
            if len(_COUNTED) >= _MOST_COUNTED:
                _COUNTED.clear()
            held = _COUNTED[key] = (tool, self._rendered(tool))
        return held[1]

    def _rendered(self, tool: ToolSchema) -> int:
        function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
        return self._template.tool + self._json({"type": "function", "function": function}, self._template.indent)

    @property
    def request(self) -> int:
        """Tokens that a request takes beyond its messages and tools."""
        return self._template.request

    def scaled(self, tokens: int) -> int:
        """A count, corrected by the largest recent ratio."""
        return tokens if self.ratio == 1.0 else math.ceil(tokens * self.ratio)

    def margin(self, total: int) -> int:
        """What is kept free because a count may be wrong, for a request of `total` tokens."""
        return 16 + total // 200 if self.exact else 32 + total // 20

    def report(self, estimated: int, reported: int) -> None:
        """Learn from a server's report: it counted `reported` where `estimated` was counted here.

        What cannot be true is ignored: no tokens, or more than four times the count.
        """
        if estimated <= 0 or reported <= 0 or reported > estimated * MOST_RATIO:
            return
        ratio = reported / estimated
        # A user's function says that it is exact, and may be far from it.
        self._ratios.append(min(ratio, MOST_EXACT_RATIO) if self.exact and self._shared else ratio)
        self.ratio = max(1.0, *self._ratios)

    @property
    def ratios(self) -> Sequence[float]:
        """The recent ratios of reported to counted tokens, oldest first."""
        return tuple(self._ratios)

    def restore(self, ratios: Sequence[float]) -> None:
        """Count as a counter of the same model did that had these `ratios`."""
        self._ratios.extend(ratios)
        self.ratio = max(1.0, max(self._ratios, default=1.0))

    def forget(self) -> None:
        """Count again as if no report had ever come."""
        self._ratios.clear()
        self.ratio = 1.0

    def _json(self, value: Any, indent: int | None = None) -> int:  # Any: JSON
        text = _compact(value) if indent is None else json.dumps(value, ensure_ascii=False, indent=indent, default=str)
        if text.isascii() or not self._template.escapes:
            return self._text(text)
        return max(self._text(text), self._text(json.dumps(value, indent=indent, default=str)))


def _guarded(counter: Callable[[str], int]) -> Callable[[str], int]:
    """A user's counter that cannot end a run: where it fails, the estimate takes its place."""

    def count(text: str) -> int:
        try:
            tokens = counter(text)
        except Exception:  # noqa: BLE001  a user's function: anything may come out of it
            return estimate(text)
        return tokens if isinstance(tokens, int) and tokens >= 0 else estimate(text)  # pyright: ignore[reportUnnecessaryIsInstance]

    return count


def image_tokens(image: Image) -> int:
    """Tokens of a picture: by its size in pixels where that can be read, and never fewer than for a usual one."""
    size = image_size(image.data)
    return LARGEST_IMAGE if size is None else max(LARGEST_IMAGE, math.ceil(size[0] * size[1] / _PIXELS_A_TOKEN))


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF, JPEG or WebP; None for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return width, height
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the frame header; the segments before it say how long they are."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case _:
            return None
