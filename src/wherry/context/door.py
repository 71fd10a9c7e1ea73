"""The door: what every message passes on its way into a context window, once.

It is escaped, measured, and, if it is over the cap, what is too large goes to the artifact store and a preview stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from wherry.context.counting import TokenCounter
from wherry.context.escape import escape
from wherry.context.offload import CLOSING, OPENING, Offload, no_room, opening, short_opening
from wherry.context.previews import Kind, head_and_tail, kind_of
from wherry.context.previews.kinds import Show
from wherry.context.shortening import short_call
from wherry.context.untrusted import Fence, Untrusted, fence, fenced, taken_apart
from wherry.journal import EventType
from wherry.messages import Message, ToolCall
from wherry.store.protocol import Artifacts
from wherry.tools.builtin.excerpts import Excerpt
from wherry.tools.builtin.read_artifact import read_back
from wherry.tools.threads import run_in_thread

LARGE = 65_536
"""Characters from which a content is read and stored in a thread: 1 MB of JSON takes 30 ms, 10 MB and a disk 300 ms."""

_SURELY_OVER = 16
"""Characters to a token that only a text of blanks passes: what has more is over its cap without being counted."""
_SMALLEST_PREVIEW = 12
_ROOM_FOR_FENCE = 64
"""Tokens under which a fence says no more than where it begins and ends."""

_SAID_BEFORE = re.compile(r"(?:Output:\n|Value: )?(?=\[a-[0-9a-f]{12})")
"""What a code agent's observation may put before an excerpt that its snippet printed."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found out about a content, and where it was put."""

    text: str
    media_type: str
    show: Show
    ref: str | None
    size: int
    """Bytes."""


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
        self._offload = Offload(artifacts, run_id=run_id, record=record)
        self._run_id = run_id
        self._record = record
        self._ready: _Looked | None = None
        self._clean: tuple[Untrusted, str] | None = None

    async def ready(self, message: Message, cap: int) -> None:
        """Do in a thread what takes long with a large message that is about to be admitted: read it, store it."""
        text, self._ready, self._clean = message.content, None, None
        if len(text) <= LARGE:
            return
        if isinstance(text, Untrusted):
            self._clean = text, cast("str", await run_in_thread(text.clean, timeout=None))
            text = self._clean[1]
        if len(text) > max(LARGE, cap * _SURELY_OVER) and not isinstance(text, Excerpt):
            self._ready = cast("_Looked", await run_in_thread(partial(self._look, text), timeout=None))

    def refer(self, message: Message) -> None:
        """Take note of a message that came through the door of an earlier run: what it refers to must stay."""
        self._offload.refer(message.content)
        for call in message.tool_calls:
            self._offload.refer(json.dumps(dict(call.arguments), default=str))

    def admit(self, message: Message, cap: int) -> tuple[Message, int]:
        """The message as it is kept, and its tokens: at most about `cap`.

        A cap that is smaller than the smallest preview is passed by that much.
        """
        if isinstance(message.content, Untrusted):
            return self._admit_fenced(message, message.content, cap)
        if len(message.content) <= cap * _SURELY_OVER:
            safe = self._escaped(message)
            tokens = self._counter.message(safe)
            if self._counter.scaled(tokens) <= cap:
                self._offload.refer(safe.content)
                return safe, tokens
        kept = self.shrink(message, cap)
        self._offload.refer(kept[0].content)
        return kept

    def shrink(self, message: Message, cap: int, *, admitted: bool = False) -> tuple[Message, int]:
        """The message with previews in place of what is large in it. `admitted`: it came through the door before."""
        if admitted and (apart := taken_apart(message.content)) is not None:
            around, inner = apart
            return self._within(
                around, cap, lambda room: self.shrink(replace(message, content=inner), room, admitted=True)
            )
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

    def _admit_fenced(self, message: Message, text: Untrusted, cap: int) -> tuple[Message, int]:
        clean = self._clean[1] if self._clean is not None and self._clean[0] is text else text.clean()
        self._clean = None
        around = fence(self._run_id, text.source, escape(text.after, self._control_tokens))
        kept = self._within(around, cap, lambda room: self.admit(replace(message, content=clean), room))
        self._offload.refer(kept[0].content)
        return kept

    def _within(self, around: Fence, cap: int, let_in: Callable[[int], tuple[Message, int]]) -> tuple[Message, int]:
        """A message whose content is fenced: `let_in(room)` gives it with the content alone."""
        if cap < _ROOM_FOR_FENCE:
            around = around.short()
        room = cap - self._counter.scaled(self._counter.text(around.around("")))
        inner, _ = let_in(max(room, _SMALLEST_PREVIEW))
        kept = replace(inner, content=fenced(inner.content, around))
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
            first, _, rest = text.partition("\n")
            body = rest.removesuffix("\n" + CLOSING)
            return self._fit(first, lambda size: head_and_tail(body, size), room, most=len(body))
        excerpt = self._excerpt(text)
        if excerpt is not None:
            return self._fitting(excerpt, room)
        if self._ready is not None and self._ready.text is text:
            looked, self._ready = self._ready, None
        else:
            looked = self._look(text)
        tag = opening(
            looked.ref, media_type=looked.media_type, size=looked.size, lines=text.count("\n") + (text[-1] != "\n")
        )
        content = self._fit(
            tag,
            lambda size: escape(looked.show(size), self._control_tokens),
            room,
            most=len(text),
            short=short_opening(looked.ref),
        )
        self._record(
            EventType.CONTEXT_OFFLOADED,
            ref=looked.ref,
            bytes=looked.size,
            media_type=looked.media_type,
            tokens_before=self._rough(text),
            tokens_after=self._counter.text(content),
        )
        return content

    def _look(self, text: str) -> _Looked:
        kind: Kind = kind_of(text)
        data = text.encode("utf-8", "surrogatepass")
        return _Looked(text, kind.media_type, kind.read(text), self._offload.keep(data, kind.media_type), len(data))

    def _excerpt(self, text: str) -> Excerpt | None:
        """The part of a stored content that a text is: it is made smaller, never stored as a content of its own."""
        if isinstance(text, Excerpt):
            return text
        before = _SAID_BEFORE.match(text)
        if before is None or self._offload.artifacts is None:
            return None
        found = read_back(self._offload.artifacts, text[before.end() :])
        return None if found is None else Excerpt(lambda size: before[0] + found.render(size), text)

    def _fitting(self, excerpt: Excerpt, room: int) -> Excerpt:
        """An excerpt in at most `room` tokens, which can be made still smaller later."""

        def render(size: int) -> str:
            return escape(excerpt.render(size), self._control_tokens)

        return Excerpt(render, self._fit(None, render, room, most=len(excerpt)) or no_room(excerpt))

    def _fit(
        self, opening: str | None, show: Callable[[int], str], room: int, *, most: int, short: str | None = None
    ) -> str:
        """The longest of a few tries that takes at most `room` tokens; at worst the opening alone, or nothing.

        Args:
            most: Characters of the whole: tries with more of a text that is a token a character would all show that.
        """
        size = min(max(room, 0) * 4, most)
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

    def _rough(self, text: str) -> int:
        """Tokens of a text of any size without counting all of it: for the record, not for the bound."""
        sample = text[:65_536]
        return self._counter.text(sample) * len(text) // max(len(sample), 1)

    # -- what is large besides the content -----------------------------------------------------------------------------

    def _with_short_arguments(self, message: Message, cap: int) -> Message:
        """Strings in the arguments cut, so far as is needed; the whole is kept as an artifact."""
        whole = json.dumps([call.to_json() for call in message.tool_calls], ensure_ascii=False, default=str)
        data = whole.encode("utf-8", "surrogatepass")
        ref = self._offload.keep(data, "application/json")
        where = "" if ref is None else f", whole in {ref}"
        before = self._counter.message(message) if len(whole) <= 1_000_000 else self._rough(whole)
        limit = max(cap * 3, 64)
        short = message
        while limit >= 16:
            short = replace(message, tool_calls=[short_call(call, limit, where=where) for call in message.tool_calls])
            if self._counter.message(short) <= cap:
                break
            limit //= 2
        else:
            note = {"left_out": "arguments" if ref is None else f"arguments, in artifact {ref}"}
            short = replace(
                message, tool_calls=[ToolCall(call.id, call.name[:64], note) for call in message.tool_calls]
            )
        self._record(
            EventType.CONTEXT_OFFLOADED,
            ref=ref,
            bytes=len(data),
            media_type="application/json",
            tokens_before=before,
            tokens_after=self._counter.message(short),
        )
        return short

    def _without_images(self, frame: Message, message: Message) -> tuple[Message, Message]:
        notes: list[str] = []
        for image in message.images:
            ref = self._offload.keep(image.data, image.media_type) if image.data else None
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
