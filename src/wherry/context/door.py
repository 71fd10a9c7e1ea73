"""The door: what every message passes on its way into a context window, once.

It is escaped, measured, and, if it is over the cap, what is too large goes to the artifact store and a preview stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from wherry.context.counting import TokenCounter
from wherry.context.escape import escape
from wherry.context.previews import head_and_tail, kind_of
from wherry.errors import StoreError
from wherry.journal import EventType
from wherry.messages import Message, ToolCall
from wherry.store.protocol import Artifacts

OPENING = "<wherry:offloaded"
CLOSING = "</wherry:offloaded>"

READERS = frozenset({"read_artifact", "search_artifact", "recall"})
"""Tools whose results are parts of what is stored already: cut to the cap, never stored again."""

_SURELY_OVER = 16
"""Characters to a token that only a text of blanks passes: what has more is over its cap without being counted."""
_SMALLEST_PREVIEW = 12


class Door:
    """Lets messages into a window.

    Args:
        counter: Measures them.
        control_tokens: Escaped, besides what is always escaped.
        artifacts: Where what is too large goes; None: nowhere, only its preview stays.
        run_id: Whose artifacts they are.
        record: `record(type, **payload)`, as `RunJournal.record`.
    """

    def __init__(
        self,
        counter: TokenCounter,
        *,
        control_tokens: tuple[str, ...],
        artifacts: Artifacts | None,
        run_id: str,
        record: Callable[..., object],
    ) -> None:
        self._counter = counter
        self._control_tokens = control_tokens
        self._artifacts = artifacts
        self._run_id = run_id
        self._record = record
        self._warned = False

    def admit(self, message: Message, cap: int) -> tuple[Message, int]:
        """The message as it is kept, and its tokens: at most about `cap`.

        A cap that is smaller than the smallest preview is passed by that much.
        """
        if len(message.content) <= cap * _SURELY_OVER:
            safe = self._escaped(message)
            tokens = self._counter.message(safe)
            if self._counter.scaled(tokens) <= cap:
                return safe, tokens
        return self.shrink(message, cap)

    def shrink(self, message: Message, cap: int, *, admitted: bool = False) -> tuple[Message, int]:
        """The message with previews in place of what is large in it. `admitted`: it came through the door before."""
        cap = int(cap / self._counter.ratio)
        # What does not shrink first: the rest of the message decides how much room the content has.
        frame = self._escaped(replace(message, content=""))
        if frame.tool_calls and self._counter.message(frame) > cap // 2:
            frame = self._with_short_arguments(frame, cap // 2)
        if frame.images and self._counter.message(frame) > cap // 2:
            frame, message = self._without_images(frame, message)
        room = cap - self._counter.message(frame)
        content = self._preview(message, room, admitted=admitted)
        kept = replace(frame, content=content)
        return kept, self._counter.message(kept)

    def _escaped(self, message: Message) -> Message:
        """Every text of the message is escaped, the assistant's own and the arguments of its calls too."""
        content = escape(message.content, self._control_tokens)
        name = None if message.name is None else escape(message.name, self._control_tokens)
        if not message.tool_calls:
            if content is message.content and name is message.name:
                return message
            return replace(message, content=content, name=name)
        calls = [self._escaped_call(call) for call in message.tool_calls]
        same = all(new is old for new, old in zip(calls, message.tool_calls, strict=True))
        if same and content is message.content and name is message.name:
            return message
        return replace(message, content=content, name=name, tool_calls=calls)

    def _escaped_call(self, call: ToolCall) -> ToolCall:
        name = escape(call.name, self._control_tokens)
        arguments = cast("Mapping[str, Any]", self._escaped_json(call.arguments))
        if name is call.name and arguments is call.arguments:
            return call
        return ToolCall(call.id, name, arguments)

    def _escaped_json(self, value: object) -> object:
        """The value itself where nothing in it had to be escaped."""
        if isinstance(value, str):
            return escape(value, self._control_tokens)
        if isinstance(value, Mapping):
            before = cast("Mapping[str, object]", value)
            after = {escape(key, self._control_tokens): self._escaped_json(item) for key, item in before.items()}
            same = all(new is old for new, old in zip(after.values(), before.values(), strict=False))
            return before if same and after.keys() == before.keys() else after
        if isinstance(value, list | tuple):
            items = cast("list[object]", value)
            escaped = [self._escaped_json(item) for item in items]
            return items if all(new is old for new, old in zip(escaped, items, strict=True)) else escaped
        return value

    # -- previews ------------------------------------------------------------------------------------------------------

    def _preview(self, message: Message, room: int, *, admitted: bool) -> str:
        text = message.content
        if not text:
            return ""
        # Only what came through the door can be a preview of its making: in all else `escape` breaks wherry's tags.
        own = admitted and text.startswith(OPENING)
        if len(text) <= room * _SURELY_OVER:
            safe = text if admitted else escape(text, self._control_tokens)
            if self._counter.text(safe) <= room:
                return safe
        if own:
            opening, _, rest = text.partition("\n")
            body = rest.removesuffix("\n" + CLOSING)
            return self._fit(opening, lambda size: head_and_tail(body, size), room)
        if message.role == "tool" and message.name in READERS:
            note = "[cut to what fits here: ask for a smaller part]"
            return self._fit(
                None, lambda size: f"{escape(head_and_tail(text, size), self._control_tokens)}\n{note}", room
            )
        kind = kind_of(text)
        show = kind.read(text)
        ref = self._store(text.encode("utf-8", "surrogatepass"), kind.media_type)
        opening = _opening(ref, kind.media_type, text)
        content = self._fit(
            opening, lambda size: escape(show(size), self._control_tokens), room, short=_short_opening(ref)
        )
        self._record(
            EventType.CONTEXT_OFFLOADED,
            ref=ref,
            bytes=_size(text),
            media_type=kind.media_type,
            tokens_before=self._rough(text),
            tokens_after=self._counter.text(content),
        )
        return content

    def _fit(self, opening: str | None, show: Callable[[int], str], room: int, *, short: str | None = None) -> str:
        """The longest of a few tries that takes at most `room` tokens; at worst the opening alone."""
        size = max(room, 0) * 4
        for _ in range(8):
            if size < _SMALLEST_PREVIEW:
                break
            body = show(size)
            content = body if opening is None else f"{opening}\n{body}\n{CLOSING}"
            tokens = self._counter.text(content)
            if tokens <= room:
                return content
            frame = 0 if opening is None else self._counter.text(opening) + 8
            over = max(tokens - frame, 1)
            size = min(int(size * max(room - frame, 0) / over * 0.95), size * 9 // 10)
        if opening is None:
            return ""
        if short is None:
            return opening if opening.endswith("/>") else opening[:-1] + "/>"
        closed = opening[:-1] + "/>"
        return closed if self._counter.text(closed) <= room else short

    def _store(self, data: bytes, media_type: str) -> str | None:
        if self._artifacts is None:
            return None
        try:
            return self._artifacts.put(data, media_type=media_type, run_id=self._run_id).ref
        except (StoreError, OSError) as error:
            if not self._warned:
                self._warned = True
                self._record(
                    EventType.WARNING,
                    message=f"large content could not be stored, only its preview is kept: {error}",
                    hint="free or repair the artifact store: later messages are offloaded to it again",
                )
            return None

    def _rough(self, text: str) -> int:
        """Tokens of a text of any size without counting all of it: for the record, not for the bound."""
        sample = text[:65_536]
        return self._counter.text(sample) * len(text) // max(len(sample), 1)

    # -- what is large besides the content -----------------------------------------------------------------------------

    def _with_short_arguments(self, message: Message, cap: int) -> Message:
        """Strings in the arguments cut, so far as is needed; the whole is kept as an artifact."""
        whole = json.dumps([call.to_json() for call in message.tool_calls], ensure_ascii=False, default=str)
        ref = self._store(whole.encode("utf-8", "surrogatepass"), "application/json")
        before = self._counter.message(message) if len(whole) <= 1_000_000 else self._rough(whole)
        limit = max(cap * 3, 64)
        short = message
        while limit >= 16:
            short = replace(message, tool_calls=[_short_call(call, limit) for call in message.tool_calls])
            if self._counter.message(short) <= cap:
                break
            limit //= 3
        else:
            note = {"left_out": "arguments" if ref is None else f"arguments, in artifact {ref}"}
            short = replace(
                message, tool_calls=[ToolCall(call.id, call.name[:64], note) for call in message.tool_calls]
            )
        self._record(
            EventType.CONTEXT_OFFLOADED,
            ref=ref,
            bytes=_size(whole),
            media_type="application/json",
            tokens_before=before,
            tokens_after=self._counter.message(short),
        )
        return short

    def _without_images(self, frame: Message, message: Message) -> tuple[Message, Message]:
        notes: list[str] = []
        for image in message.images:
            ref = self._store(image.data, image.media_type) if image.data else None
            where = image.url if ref is None else f"artifact {ref}"
            notes.append(f"[picture left out: {image.media_type}, {len(image.data):,} bytes, {where or 'not kept'}]")
        before, after = self._counter.message(frame), self._counter.message(replace(frame, images=()))
        self._record(
            EventType.CONTEXT_OFFLOADED,
            ref=None,
            bytes=sum(len(image.data) for image in message.images),
            media_type=message.images[0].media_type,
            tokens_before=before,
            tokens_after=after,
        )
        content = "\n".join(part for part in (message.content, *notes) if part)
        return replace(frame, images=()), replace(message, content=content)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _opening(ref: str | None, media_type: str, text: str) -> str:
    size = f'type="{media_type}" bytes="{_size(text)}" lines="{text.count(chr(10)) + 1}"'
    if ref is None:
        return f'{OPENING} {size} note="not stored: only this preview is left">'
    return f'{OPENING} ref="{ref}" {size} read="read_artifact(ref, offset, limit)">'


def _short_opening(ref: str | None) -> str:
    return f"{OPENING}/>" if ref is None else f'{OPENING} ref="{ref}"/>'


def _short_call(call: ToolCall, limit: int) -> ToolCall:
    return ToolCall(call.id, call.name[:256], cast("dict[str, Any]", _short(dict(call.arguments), limit)))


def _short(value: object, limit: int) -> object:
    if isinstance(value, str):
        return head_and_tail(value, limit) if len(value) > limit else value
    if isinstance(value, dict):
        items = list(cast("dict[str, object]", value).items())
        kept = {key[:limit]: _short(item, limit) for key, item in items[: max(limit // 8, 4)]}
        return kept if len(kept) == len(items) else {**kept, "...": f"{len(items) - len(kept)} more left out"}
    if isinstance(value, list):
        values = cast("list[object]", value)
        short = [_short(item, limit) for item in values[: max(limit // 8, 4)]]
        return short if len(short) == len(values) else [*short, f"... {len(values) - len(short)} more left out"]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > limit * 3:
        return f"a whole number of {value.bit_length()} bits, left out"
    return value
