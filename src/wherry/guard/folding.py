"""Making room in another program's conversation, with what bounds wherry's own: door, turns, summary, compaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wherry.context import ContextBudget, TokenCounter
from wherry.context.compaction import SMALLEST_CAP, Compaction
from wherry.context.door import Door
from wherry.context.facts import FactWriter
from wherry.context.groups import Entry
from wherry.context.ledger import Ledger
from wherry.context.summary import Summary
from wherry.context.table import budget_error
from wherry.context.turns import Turns
from wherry.errors import ContextBudgetError
from wherry.guard.pieces import Piece
from wherry.journal import EventType
from wherry.messages import JSON, Message
from wherry.store.protocol import Artifacts

_SYSTEM_SHARE = 2
"""The part of the free room that system messages may take when not all fits."""
_FIRST_SHARE = 6
"""And the first user's message, which is what a conversation of agents is about."""


@dataclass(slots=True)
class Held:
    """What there is of a conversation."""

    system: list[Piece] = field(default_factory=list[Piece])
    body: list[Piece] = field(default_factory=list[Piece])
    """All other messages in their order, the summary among them."""
    summary: Piece | None = None
    state: JSON = None
    """Of the summary, to go on with."""


@dataclass(slots=True)
class Done:
    """How much was done."""

    shortened: int = 0
    folded: int = 0
    refs: list[str] = field(default_factory=list[str])
    """Artifacts that hold what was shortened."""


class Folding:
    """Makes a conversation smaller.

    Args:
        counter: Measures.
        budget: What the user set.
        control_tokens: Escaped in what is written anew.
        artifacts: Where what is shortened goes; None: nowhere.
        run_id: Whose artifacts they are.
        writer: Makes the writer of summaries for a task; None: there are extracts.
    """

    def __init__(
        self,
        counter: TokenCounter,
        *,
        budget: ContextBudget,
        control_tokens: tuple[str, ...] = (),
        artifacts: Artifacts | None = None,
        run_id: str = "",
        writer: Callable[[str], FactWriter | None] | None = None,
    ) -> None:
        self._counter = counter
        self._budget = budget
        self._control_tokens = control_tokens
        self._writer = writer
        self._done = Done()
        self._door = Door(
            counter, control_tokens=control_tokens, artifacts=artifacts, run_id=run_id, record=self._record
        )

    def _record(self, type: EventType, /, **payload: object) -> None:
        if type is EventType.CONTEXT_OFFLOADED:
            ref = payload.get("ref")
            if isinstance(ref, str):
                self._done.refs.append(ref)
        elif type is EventType.CONTEXT_COMPACTED:
            folded = payload.get("folded")
            self._done.folded += len(folded) if isinstance(folded, list) else 0  # pyright: ignore[reportUnknownArgumentType]

    async def fold(self, held: Held, *, room: int, tools: int, frame: int) -> Done:
        """Make it fit in `room`.

        Args:
            held: Changed in place.
            room: Tokens of the window without the reserve.
            tools: Tokens of the tools' schemas.
            frame: Tokens that the way of writing may add.

        Raises:
            ContextBudgetError: It cannot be made to fit. `held` may be smaller than before.
        """
        self._done = Done()
        task, pinned, older, recent = self._divided(held)
        free = max(room - self._counter.margin(room) - self._counter.scaled(tools + frame + self._counter.request), 0)
        self._shrink_system(held.system, free // _SYSTEM_SHARE)
        free -= self._cost(held.system)
        if pinned is not None:
            self._shrink(pinned, max(free, 0) // _FIRST_SHARE)
            if self._cost([pinned]) > max(free // _FIRST_SHARE, SMALLEST_CAP):
                older.insert(0, pinned)
                pinned = None
            else:
                free -= self._cost([pinned])
        cap = max(SMALLEST_CAP, min(self._budget.per_message or room // 4, max(free, 0) // 2))
        for piece in (*older, *recent):
            self._shrink(piece, cap)
        if task is not None:
            self._shrink(task, max(free - self._cost(recent), free * 3 // 5))
        head = [*held.system, *([] if pinned is None else [pinned])]
        await self._compact(held, head, task, older, recent, room=room, tools=tools + frame)
        if pinned is not None:
            held.body.insert(0, pinned)
        self._done.shortened = sum(piece.raw is not None and piece.changed for piece in (*held.system, *held.body))
        return self._done

    def _divided(self, held: Held) -> tuple[Piece | None, Piece | None, list[Piece], list[Piece]]:
        """The latest thing that a user said, the first, what is before and what is after the latest."""
        body = [piece for piece in held.body if piece is not held.summary]
        at = next((n for n in range(len(body) - 1, -1, -1) if body[n].spoken), None)
        if at is None:
            return None, None, [], body
        if at > 0 and body[0].message.role == "user":
            return body[at], body[0], body[1:at], body[at + 1 :]
        return body[at], None, body[:at], body[at + 1 :]

    def _cost(self, pieces: Sequence[Piece]) -> int:
        return self._counter.scaled(sum(piece.tokens for piece in pieces))

    def _shrink(self, piece: Piece, cap: int) -> None:
        if self._cost([piece]) <= cap:
            return
        cap = max(cap - piece.stays, 1)
        message, tokens = self._door.shrink(piece.message, cap, admitted=piece.message is not piece.read)
        tokens += piece.stays
        if tokens < piece.tokens:
            piece.message, piece.tokens = message, tokens

    def _shrink_system(self, system: Sequence[Piece], room: int) -> None:
        over = self._cost(system)
        if over <= room:
            return
        left, count = room, len(system)
        for piece in sorted(system, key=lambda piece: piece.tokens):
            self._shrink(piece, max(left // count, SMALLEST_CAP))
            left -= min(self._cost([piece]), left)
            count -= 1

    async def _compact(
        self,
        held: Held,
        head: Sequence[Piece],
        task: Piece | None,
        older: Sequence[Piece],
        recent: Sequence[Piece],
        *,
        room: int,
        tools: int,
    ) -> None:
        ledger = Ledger(self._counter)
        kept = Entry(Message("user"), 0, "") if task is None else task
        turns = Turns(kept, keep=_no_digest)
        ledger.set_head(system=sum(piece.tokens for piece in head), tools=tools, task=kept.tokens)
        for pieces, groups in ((older, turns.older), (recent, turns.recent)):
            for piece in pieces:
                turns.add(piece, groups)
                ledger.add(piece)
        if held.summary is not None:
            turns.summary = held.summary
            ledger.add(held.summary)
        asked = "\n".join(piece.message.content for piece in (*head[-1:], *([] if task is None else [task])))
        summary = self._summary(asked, held.state)
        compaction = Compaction(
            turns=turns,
            ledger=ledger,
            summary=summary,
            door=self._door,
            budget=self._budget,
            keep=_no_digest,
            record=self._record,
            divide=False,
        )
        fits = await compaction.keep_within(room)
        held.state = summary.state()
        if turns.task is not kept and task is not None:
            task.message, task.tokens = turns.task.message, turns.task.tokens
        held.summary = None
        held.body = []
        if turns.summary is not None:
            written = turns.summary
            held.summary = written if isinstance(written, Piece) else Piece(written.message, written.tokens, "")
        for entry in turns.entries():
            piece = held.summary if entry is turns.summary else task if entry is turns.task else entry
            if isinstance(piece, Piece):
                held.body.append(piece)
        if not fits:
            raise self._error(ledger, turns, room)

    def _summary(self, task: str, state: JSON) -> Summary:
        writer = None if self._writer is None or self._budget.compaction == "extract" else self._writer(task)
        summary = Summary(self._counter, task=task, control_tokens=self._control_tokens, writer=writer, recall=False)
        if state is not None:
            summary.restore(state)
        return summary

    def _error(self, ledger: Ledger, turns: Turns, room: int) -> ContextBudgetError:
        scaled = self._counter.scaled
        parts = {
            "system prompt": scaled(ledger.system),
            "tool schemas": scaled(ledger.tools),
            "task": scaled(ledger.task),
            "newest messages": sum(ledger.cost(entry) for group in turns.recent for entry in group.entries),
            "message markers": scaled(self._counter.request),
            "safety margin": self._counter.margin(ledger.total()),
        }
        return budget_error(parts, room, run_id="")


def _no_digest(_: Message) -> str:
    return ""
