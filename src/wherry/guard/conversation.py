"""One conversation of another program: read once, message by message, and folded when it is time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from wherry.context import TokenCounter
from wherry.context.groups import Group, unfinished, well_formed
from wherry.context.summary import read_summary
from wherry.guard.folding import Folding, Held
from wherry.guard.openai_messages import read_content
from wherry.guard.pieces import Count, Dialect, Dict, Part, Piece
from wherry.messages import Message

Kind = Literal["repaired", "joined", "shortened", "folded"]

UNDERSTOOD = Message("assistant", "Understood.")
"""Stands between two user's messages of which neither is to be changed."""
LEFT_OUT = Message("user", "[earlier messages are left out]")
_FIRST = 4
"""Messages among which a summary of an earlier `fit` is looked for."""
_SYSTEM_NOTE = "[system]\n"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done to a conversation."""

    kind: Kind
    what: str
    """In words."""
    messages: int = 1
    """How many messages of the conversation it was done to."""


class Conversation:
    """Takes messages in at its end and says what of them is to be sent.

    Not safe for concurrent use.

    Args:
        dialect: How its dicts are written.
        counter: Measures.
        count: What a part of a dict takes.
        strict: Whether it is put so that the strictest servers take it: one system message, at the beginning, then a
            user's; no two of one role in a row.
        system: A system prompt that is no message: text, or blocks of it.
    """

    def __init__(
        self,
        dialect: Dialect,
        counter: TokenCounter,
        count: Count,
        *,
        strict: bool,
        system: object = None,
    ) -> None:
        self.dialect = dialect
        self._counter = counter
        self._count = count
        self._strict = strict
        self._held = Held()
        self._newest: Group | None = None
        self._raw = 0
        """Tokens of all pieces, as counted."""
        self.taken = 0
        """Messages taken in."""
        self.folded = 0
        self._changes: dict[tuple[Kind, str], int] = {}
        self._apart = None if not system else self._system_apart(system)

    def _system_apart(self, system: object) -> Piece:
        text = read_content(system)[0]
        part = Part(Message("system", text), {"role": "system", "content": system})
        piece = self._piece(part, part.raw, spoken=False)
        self._held.system.append(piece)
        self._raw += piece.tokens
        return piece

    def system(self, given: object) -> tuple[object, int]:
        """The system prompt that is no message, as it is to be sent, and what it takes."""
        piece = self._apart
        if piece is None:
            return given, 0
        return (piece.message.content if piece.changed else given), piece.tokens

    # -- what goes in --------------------------------------------------------------------------------------------------

    def append(self, raw: Dict) -> None:
        """Take the next message in."""
        self.taken += 1
        parts, mended = self.dialect.parts(raw)
        for what in mended:
            self._note("repaired", what)
        for part in parts:
            piece = self._piece(part, raw, spoken=part.message.role == "user")
            piece.index = self.taken - 1
            self._take(piece)

    def _piece(self, part: Part, source: Dict, *, spoken: bool) -> Piece:
        tokens = self._count(part)
        stays = sum(map(self._counter.text, part.stays))
        piece = Piece(part.message, tokens, "", raw=part.raw, source=source, read=part.message, spoken=spoken)
        piece.stays, piece.of = stays, part.of
        return piece

    def _take(self, piece: Piece) -> None:
        if piece.message.role == "system":
            if not self._held.body:
                self._add_system(piece)
                return
            if self._strict:
                self._note("repaired", "a system message that is not the first is a user's")
                message = replace(piece.message, role="user", content=_SYSTEM_NOTE + piece.message.content, name=None)
                piece = self._made(message)
        if self._is_own(piece):
            return
        if piece.message.role == "tool" and piece.message.tool_call_id is None:
            piece = self._answering(piece)
        for message in well_formed(piece.message, self._newest):
            if message is piece.message:
                self._add(piece)
            else:
                stray = message.role == "user"
                self._note("repaired", "a result without its call is a user's" if stray else "a call has no result")
                self._add(self._made(message))

    def _is_own(self, piece: Piece) -> bool:
        """Whether a message is what an earlier `fit` put in: a summary is gone on with, what stands around it is not
        part of the conversation.
        """
        body, held = self._held.body, self._held
        if held.summary is not None:
            return self._strict and body[-1] is held.summary and piece.message == UNDERSTOOD
        state = read_summary(piece.message) if len(body) <= _FIRST else None
        if state is None:
            return False
        if self._strict and body and body[-1].message == UNDERSTOOD:
            self._raw -= body.pop().tokens
        piece.spoken = False
        held.summary, held.state = piece, state
        self._add(piece)
        return True

    def _answering(self, piece: Piece) -> Piece:
        """A result that does not say of which call it is: of the first that has none."""
        open_calls = self._newest.open_calls if self._newest is not None else {}
        if not open_calls:
            return piece
        self._note("repaired", "a result does not name its call")
        return self._made(replace(piece.message, tool_call_id=next(iter(open_calls))))

    def _made(self, message: Message) -> Piece:
        return Piece(message, self._counter.message(message), "")

    def _add_system(self, piece: Piece) -> None:
        if self._strict and self._held.system and self._held.system[-1] is not self._apart:
            self._raw -= self._held.system[-1].tokens
            piece = self._joined([self._held.system.pop(), piece])
        self._held.system.append(piece)
        self._raw += piece.tokens

    def _add(self, piece: Piece) -> None:
        before = self._held.body[-1] if self._held.body else None
        role = piece.message.role
        said = before is not None and before.message.role == role == "assistant" and not before.message.tool_calls
        if self._strict and before is not None and said:
            piece = self._joined([self._held.body.pop(), piece])
            self._raw -= before.tokens
        if role == "assistant" or self._newest is None:
            self._newest = Group()
        self._newest.add(piece)
        self._held.body.append(piece)
        self._raw += piece.tokens

    def _joined(self, pieces: Sequence[Piece]) -> Piece:
        """Messages of one role as one."""
        raw = self.dialect.join(pieces)
        part = self.dialect.parts(raw)[0][0]
        self._note("joined", f"messages of the {part.message.role} in a row")
        return self._piece(part, raw, spoken=any(piece.spoken for piece in pieces))

    def _note(self, kind: Kind, what: str, messages: int = 1) -> None:
        before = 0 if kind in ("shortened", "joined") else self._changes.get((kind, what), 0)
        self._changes[kind, what] = before + messages

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done so far, and is where the messages are written."""
        done = [Change(kind, what, messages) for (kind, what), messages in self._changes.items()]
        # Not noted for good: the results may come with the next messages.
        if open_calls := len(unfinished(self._newest)):
            done.append(Change("repaired", "calls at the end have no result", open_calls))
        body = self._held.body
        if self._strict and body and body[0].message.role != "user":
            done.append(Change("repaired", "it does not begin with a user's message"))
        return tuple(done)

    # -- what comes out ------------------------------------------------------------------------------------------------

    def total(self, tools: int) -> int:
        """What a request of all that is held takes."""
        frame = sum(self._counter.message(message) for message in self._frame())
        return self._counter.scaled(self._counter.request + tools + self._raw + frame)

    def fits(self, room: int, tools: int) -> bool:
        """Whether all that is held is within `room`."""
        total = self.total(tools)
        return total + self._counter.margin(total) <= room

    def dicts(self) -> list[tuple[Dict, Sequence[Piece]]]:
        """The messages to be sent, each with what it is made of."""
        first = [piece for piece in self._held.system if piece is not self._apart]
        return self.dialect.write([*first, *self._sequence()])

    def _frame(self) -> list[Message]:
        """What `_sequence` may put in."""
        frame = unfinished(self._newest)
        if self._strict and self._held.body:
            if self._held.body[0].message.role != "user":
                frame.append(LEFT_OUT)
            if self._held.summary is not None:
                frame += [UNDERSTOOD, UNDERSTOOD]
        return frame

    def _sequence(self) -> list[Piece]:
        body = [*self._held.body, *(self._made(message) for message in unfinished(self._newest))]
        if not self._strict or not body:
            return body
        out = [] if body[0].message.role == "user" else [self._made(LEFT_OUT)]
        users: list[Piece] = []
        for piece in body:
            if piece.message.role == "user" and piece is not self._held.summary:
                users.append(piece)
                continue
            self._add_users(out, users)
            users = []
            if piece is self._held.summary and out and out[-1].message.role == "user":
                out.append(self._made(UNDERSTOOD))
            out.append(piece)
        self._add_users(out, users)
        return out

    def _add_users(self, out: list[Piece], users: Sequence[Piece]) -> None:
        if not users:
            return
        if out and out[-1].message.role == "user":
            out.append(self._made(UNDERSTOOD))
        out.append(users[0] if len(users) == 1 else self._joined(users))

    # -- making room ---------------------------------------------------------------------------------------------------

    async def fold(self, folding: Folding, *, room: int, tools: int) -> None:
        """Make it fit: previews of what is large, then whole turns into the summary.

        Raises:
            ContextBudgetError: Even so it does not fit.
        """
        for message in unfinished(self._newest):
            self._note("repaired", "a call has no result")
            self._add(self._made(message))
        frame = self._counter.message(LEFT_OUT) + 2 * self._counter.message(UNDERSTOOD) if self._strict else 0
        try:
            done = await folding.fold(self._held, room=room, tools=tools, frame=frame)
        finally:
            self._raw = sum(piece.tokens for piece in (*self._held.system, *self._held.body))
        self.folded += done.folded
        if done.shortened:
            self._note("shortened", "previews stand for what is large", done.shortened)
        if done.folded:
            self._note("folded", "a summary stands for earlier turns", done.folded)
