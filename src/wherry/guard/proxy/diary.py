"""What is written of the proxy's work: for each key and day a run, for each conversation a run below it.

A run per key and day, because that is what a limit and a bill are about, and its size is bounded whatever clients do;
runs of conversations below it, because a request lists the digests of its messages as what it shares with the one
before and what is new, which is short only within one conversation. Requests that begin alike (system prompt and first
message) are one conversation: the interfaces have no name for it.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from wherry.errors import StoreError
from wherry.guard.anthropic_messages import AnthropicMessages
from wherry.guard.openai_messages import OpenAIMessages
from wherry.guard.pieces import Dialect, as_dict, key_of
from wherry.guard.proxy.keys import Client
from wherry.journal import EventType, Journal, RunJournal, read_events
from wherry.messages import Message, Usage
from wherry.policy import Account
from wherry.store import RunRow, Store

FLUSH_SECONDS = 0.1
IDLE_SECONDS = 600.0
"""After which a conversation is taken for finished."""
_MOST_OPEN = 256
"""Conversations of one key that are open at the same time; the one that rested longest is finished for a new one."""
_SWEEP_SECONDS = 5.0
_PREVIEW = 2_000

_log = logging.getLogger("wherry.guard")
Style = Literal["openai", "anthropic"]
_DIALECTS: Mapping[Style, Dialect] = {"openai": OpenAIMessages(), "anthropic": AnthropicMessages()}


class Conversation:
    """The journal of requests that begin alike."""

    def __init__(self, journal: RunJournal) -> None:
        self.journal = journal
        self.step = 0
        self.under_way = 0
        self.touched = time.monotonic()
        self.usage = Usage()
        self._digests: list[str] = []
        self._known: dict[bytes, tuple[str, ...]] = {}
        self._schemas: bytes | None = None
        self._said = ""

    def requested(
        self,
        messages: Sequence[Mapping[str, Any]],
        offered: Sequence[Mapping[str, Any]],
        *,
        system: object,
        style: Style,
        **sizes: object,
    ) -> int:
        """Record a request as it is sent; its number."""
        self.step += 1
        self.touched = time.monotonic()
        digests = [digest for message in messages for digest in self._kept(message, style)]
        if system:
            digests = [*self._kept({"role": "system", "content": system}, style), *digests]
        keep = 0
        for old, new in zip(self._digests, digests, strict=False):
            if old != new:
                break
            keep += 1
        self._digests = digests
        schemas = key_of(offered)
        more: dict[str, Any] = {}
        if schemas != self._schemas:
            self._schemas = schemas
            more["schemas"] = [_schema(tool) for tool in offered]
        self.journal.record(
            EventType.MODEL_REQUESTED,
            step=self.step,
            keep=keep,
            add=digests[keep:],
            tools_digest=schemas.hex(),
            **sizes,
            **more,
        )
        return self.step

    def replied(self, step: int, message: Message | None, usage: Usage, *, estimated: bool, **more: object) -> None:
        """Record a reply."""
        self.touched = time.monotonic()
        self.usage += usage
        self._said = message.content[:_PREVIEW] if message is not None else ""
        self.journal.record(
            EventType.MODEL_REPLIED,
            step=step,
            message=None if message is None else self.journal.keep(message),
            usage=usage.to_json(),
            seconds=round(usage.seconds, 6),
            estimated=estimated,
            **more,
        )

    def failed(
        self, step: int, *, kind: str, message: str, act: str, usage: Usage | None = None, **more: object
    ) -> None:
        """Record that a request failed, and what was done about it."""
        if usage is not None:
            self.usage += usage
            more["usage"] = usage.to_json()
        self.journal.record(EventType.MODEL_FAILED, step=step, kind=kind, message=message, act=act, **more)

    def finish(self) -> None:
        self.journal.record(
            EventType.RUN_FINISHED,
            status="completed",
            preview=self._said,
            output=None,
            ref=None,
            usage=self.usage.to_json(),
            steps=self.step,
            error=None,
        )

    def _kept(self, raw: Mapping[str, Any], style: Style) -> tuple[str, ...]:
        """The digests of what a message of the interface says, which may be several messages."""
        key = key_of(raw)
        digests = self._known.get(key)
        if digests is None:
            parts, _ = _DIALECTS[style].parts(raw)
            digests = self._known[key] = tuple(self.journal.keep(part.message) for part in parts)
        return digests


class KeyDay:
    """What one key has spent on one day, and the journals of it."""

    def __init__(self, client: Client, day: str, account: Account, journal: RunJournal | None) -> None:
        self.client = client
        self.day = day
        self.account = account
        self.journal = journal
        """None: nothing is written."""
        self.under_way = 0
        self.open: OrderedDict[bytes, Conversation] = OrderedDict()
        self.usage = Usage()
        """Of what was asked since this began; the account's also has what was spent earlier that day."""
        self.steps = 0
        self.told: set[str] = set()

    @property
    def run_id(self) -> str:
        return "" if self.journal is None else self.journal.run_id


class Diary:
    """Keeps the books. One event loop's; the store is written by a thread, a few times a second.

    Args:
        store: None: nothing is written, and what was spent is forgotten when the proxy ends.
        models: What the upstreams are, in words.
        window: What requests are held to, if that is known.
        on_error: Called when the store cannot be written. The proxy goes on.
    """

    def __init__(
        self, store: Store | None, *, models: str, window: int | None, on_error: Callable[[str], object]
    ) -> None:
        self.store = store
        self._models = models
        self._window = window
        self._on_error = on_error
        self._days: dict[str, KeyDay] = {}
        self._opening: dict[str, asyncio.Task[KeyDay]] = {}
        self._dirty: dict[str, RunJournal] = {}
        self._closed: list[KeyDay] = []
        self._swept = 0.0

    async def day(self, client: Client) -> KeyDay:
        """Today's book of a key."""
        today = datetime.now(UTC).date().isoformat()
        found = self._days.get(client.name)
        if found is not None and found.day == today:
            return found
        name = f"{client.name} {today}"
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = asyncio.create_task(self._open(client, today))
            opening.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(opening)

    async def _open(self, client: Client, today: str) -> KeyDay:
        account = Account(client.limits)
        journal: RunJournal | None = None
        if self.store is not None:
            session = f"guard:{client.name}"
            if client.limits:
                since = datetime.fromisoformat(today).replace(tzinfo=UTC).timestamp()
                account.restore(await asyncio.to_thread(_spent, self.store, session, since))
            journal = Journal.start(self.store, agent=client.name)
            account.run_id = journal.run_id
            self._begin(journal, f"what the key {client.name} asks on {today}", kind="guard", session=session)
        day = KeyDay(client, today, account, journal)
        before = self._days.get(client.name)
        if before is not None:
            self._closed.append(before)
        self._days[client.name] = day
        return day

    def _begin(self, journal: RunJournal, task: str, *, kind: str, session: str | None) -> None:
        journal.record(
            EventType.RUN_STARTED,
            task=task,
            kind=kind,
            model=self._models,
            window=self._window,
            tools=[],
            agents=[],
            tier=None,
            session=session,
            max_steps=0,
            versions={"wherry": version("wherry"), "python": platform.python_version()},
        )
        self._dirty[journal.run_id] = journal

    def conversation(self, day: KeyDay, messages: Sequence[Mapping[str, Any]], system: object) -> Conversation | None:
        """Where a request of these messages belongs; None where nothing is written."""
        if day.journal is None:
            return None
        first = next((m for m in messages if m.get("role") == "user"), None)
        opening = key_of([system, messages[0] if messages else None, first])
        found = day.open.pop(opening, None)
        if found is None:
            task = _text(first)
            journal = day.journal.child(f"{day.client.name}/conversation")
            day.steps += 1
            day.journal.record(
                EventType.AGENT_CALLED,
                step=day.steps,
                name="conversation",
                run_id=journal.run_id,
                task=task[:_PREVIEW],
            )
            self.touch(day.journal)
            found = Conversation(journal)
            self._begin(journal, task[:_PREVIEW], kind="conversation", session=None)
        day.open[opening] = found
        if len(day.open) > _MOST_OPEN:
            self._let_go(day, lambda _: True, most=1)
        return found

    def touch(self, journal: RunJournal) -> None:
        """Something was recorded there."""
        self._dirty[journal.run_id] = journal

    def limit_reached(self, day: KeyDay, limit: str, value: object) -> None:
        """Note the first refusal of a limit."""
        if day.journal is not None and limit not in day.told:
            day.told.add(limit)
            day.journal.record(EventType.LIMIT_REACHED, limit=limit, value=str(value), owner=day.run_id)
            self.touch(day.journal)

    # ---- writing

    async def keep_writing(self) -> None:
        """Write what was recorded, again and again, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
            if time.monotonic() - self._swept > _SWEEP_SECONDS:
                await self._sweep()

    async def flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        if dirty:
            await asyncio.to_thread(_send_all, [*dirty.values()])

    async def close(self) -> None:
        """End all runs and write all."""
        days, self._days = [*self._closed, *self._days.values()], {}
        self._closed = []
        for day in days:
            self._finish(day)
        await self.flush()
        for day in days:
            await self._check(day)

    async def _sweep(self) -> None:
        """Finish what rests; look whether the store takes what it is given."""
        self._swept = now = time.monotonic()
        today = datetime.now(UTC).date().isoformat()
        for name, day in [*self._days.items()]:
            if day.day != today and not day.under_way:
                del self._days[name]
                self._closed.append(day)
            else:
                self._let_go(day, lambda one: now - one.touched > IDLE_SECONDS)
                await self._check(day)
        ended = [day for day in self._closed if not day.under_way]
        self._closed = [day for day in self._closed if day.under_way]
        for day in ended:
            self._finish(day)

    async def _check(self, day: KeyDay) -> None:
        if day.journal is None:
            return
        try:
            await day.journal.commit()
        except StoreError as error:
            self._on_error(error.message)
            _log.error("the journal of %s cannot be written: %s", day.client.name, error.message)
            # What goes on from here has a journal of its own: this one has a hole, and takes nothing more.
            if self._days.get(day.client.name) is day:
                fresh = Journal.start(day.journal.store, agent=day.client.name)
                self._begin(
                    fresh,
                    f"what the key {day.client.name} asks on {day.day}, after the store failed",
                    kind="guard",
                    session=f"guard:{day.client.name}",
                )
                day.journal = fresh
                day.open.clear()

    def _let_go(self, day: KeyDay, over: Callable[[Conversation], bool], *, most: int | None = None) -> None:
        ended = [(key, one) for key, one in day.open.items() if not one.under_way and over(one)][:most]
        for key, one in ended:
            del day.open[key]
            one.finish()
            self.touch(one.journal)

    def _finish(self, day: KeyDay) -> None:
        if day.journal is None:
            return
        for one in day.open.values():
            one.finish()
            self.touch(one.journal)
        day.open.clear()
        day.journal.record(
            EventType.RUN_FINISHED,
            status="completed",
            preview="",
            output=None,
            ref=None,
            usage=day.usage.to_json(),
            steps=day.steps,
            error=None,
        )
        self.touch(day.journal)


def _send_all(journals: Sequence[RunJournal]) -> None:
    for journal in journals:
        journal.send()


def _text(message: Mapping[str, Any] | None) -> str:
    if message is None:
        return ""
    parts, _ = _DIALECTS["openai"].parts(message)
    return parts[0].message.content if parts else ""


def _schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = as_dict(tool.get("function")) or tool
    return {
        "name": str(function.get("name", "")),
        "description": str(function.get("description") or ""),
        "parameters": function.get("parameters") or function.get("input_schema") or {},
        "returns": None,
    }


def _spent(store: Store, session: str, since: float) -> Usage:
    """What the runs of a session that began since then have spent; of those without an end, by their events."""
    total = Usage()
    for row in store.runs(session=session, limit=10_000):
        if row.started < since:
            break
        total += sum(_usages(store, row), Usage())
    return total


def _usages(store: Store, row: RunRow) -> Iterator[Usage]:
    if row.usage is not None:
        yield Usage.from_json(row.usage)
        return
    for child in store.runs(parent=row.run_id, limit=1 << 31):
        if child.usage is not None:
            yield Usage.from_json(child.usage)
            continue
        for event in read_events(store, child.run_id):
            if event.type in (EventType.MODEL_REPLIED, EventType.MODEL_FAILED) and event.payload.get("usage"):
                yield Usage.from_json(event.payload["usage"])
