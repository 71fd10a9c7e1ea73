"""Writing a journal: events get their number and hash as they happen and go to the store in batches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from wherry.errors import StoreConflict, StoreError
from wherry.journal.anchors import anchor
from wherry.journal.chain import Link, genesis
from wherry.journal.events import Event, EventType, Subscriber
from wherry.journal.quoting import LEAST_BODY, Quotable, quotable, quoting
from wherry.journal.run_ids import new_run_id
from wherry.messages import Message, canonical, digest, parse
from wherry.redaction import redact_json
from wherry.store import Batch, EventRow, RunRow, Store

_OF_THE_RUN = frozenset({EventType.RUN_STARTED, EventType.RUN_RESUMED, EventType.RUN_FINISHED})
"""Events that the list of runs and the chain of all runs know of."""
TASK_PREVIEW = 2000
"""Characters of the task that the list of runs shows."""
SOON = 0.05
"""Seconds that `send_soon` may take: less than anybody who looks on notices, more than a step without a slow model."""


class Journal:
    """The journal of one tree of runs: a store, and who wants to know at once."""

    def __init__(self, store: Store, subscribers: Iterable[Subscriber] = ()) -> None:
        self.store = store
        self._subscribers: tuple[Subscriber, ...] = tuple(subscribers)

    @classmethod
    def start(
        cls,
        store: Store,
        *,
        agent: str,
        subscribers: Iterable[Subscriber] = (),
        parent: RunJournal | None = None,
        run_id: str | None = None,
    ) -> RunJournal:
        """Begin the journal of a new run; nothing is written before its first event.

        Args:
            subscribers: Called with every event of this run and of all runs below it.
            parent: The run whose agent calls this one's: its subscribers hear of this run too.
            run_id: A name that nobody used yet; None makes one.
        """
        if parent is None:
            return RunJournal(cls(store, subscribers), agent=agent, run_id=run_id or new_run_id(), parent_run_id=None)
        for fn in subscribers:
            parent.tree.subscribe(fn)
        return RunJournal(parent.tree, agent=agent, run_id=run_id or new_run_id(), parent_run_id=parent.run_id)

    @classmethod
    def go_on(
        cls,
        store: Store,
        run_id: str,
        *,
        subscribers: Iterable[Subscriber] = (),
        parent: RunJournal | None = None,
        seq: int | None = None,
    ) -> RunJournal:
        """The journal of a run that is in the store, to be written on behind its last record.

        With `parent` it is of the same tree as that one's. Takes one look at the last record, however long the run is;
        does not verify the chain. If another process goes on with the run too, the first of the two to commit gets
        through and the other's commits fail.

        Args:
            seq: The last record that the caller knows, if it has read them: nothing may have come behind it.

        Raises:
            RunNotFound: The store has no such run.
            StoreConflict: Something came behind `seq`.
            StoreError: The run has no records, or its payloads were pruned.
        """
        run, last = store.run(run_id), store.last_event(run_id)
        if last is None or last.pruned is not None:
            why = "has no records" if last is None else "was pruned"
            raise StoreError(f"run {run_id!r} cannot be gone on with: it {why}", run_id=run_id)
        if seq is not None and last.seq != seq:
            raise StoreConflict(f"another process goes on with run {run_id!r}", run_id=run_id)
        tree = cls(store, subscribers) if parent is None else parent.tree
        return RunJournal(tree, agent=run.agent, run_id=run_id, parent_run_id=run.parent_run_id, after=(run, last))

    def subscribe(self, fn: Subscriber) -> Callable[[], None]:
        """Call `fn` with every event of the tree from now on, until the function that is returned is called."""
        self._subscribers = (*self._subscribers, fn)

        def unsubscribe() -> None:
            # Equality, not identity: a bound method is a new object each time it is looked up.
            self._subscribers = tuple(other for other in self._subscribers if other != fn)

        return unsubscribe

    def tell(self, event: Event) -> list[tuple[Subscriber, Exception]]:
        """Tell all subscribers of an event; those that raised are dropped and returned."""
        if not self._subscribers:
            return []
        failed: list[tuple[Subscriber, Exception]] = []
        for fn in self._subscribers:
            try:
                fn(event)
            except Exception as error:  # noqa: BLE001 - whatever an onlooker does wrong must not end the run
                failed.append((fn, error))
        for fn, _ in failed:
            self._subscribers = tuple(other for other in self._subscribers if other != fn)
        return failed


class RunJournal:
    """The journal of one run.

    Events may be recorded from any thread. A run has one journal at a time: what another process appends in between
    makes the next commit fail, and after a failed append every later one fails too, so that a journal never has a hole.
    """

    def __init__(
        self,
        tree: Journal,
        *,
        agent: str,
        run_id: str,
        parent_run_id: str | None,
        after: tuple[RunRow, EventRow] | None = None,
    ) -> None:
        self.tree = tree
        self.store = tree.store
        self.agent = agent
        self.run_id = run_id
        self.parent_run_id = parent_run_id
        self._link = Link(run_id, agent)
        self._hash = genesis(run_id, parent_run_id)
        self._seq = 0
        self._lock = threading.Lock()
        """Over the chain and what waits to be sent."""
        self._events: list[EventRow] = []
        self._messages: list[tuple[str, bytes]] = []
        self._anchors: list[bytes] = []
        self._kept: set[str] = set()
        self._masked: bool | None = False
        """Whether a secret was taken out that no record says yet; None: one does."""
        self._quotable: tuple[Quotable, ...] = ()
        self._run: RunRow | None = None
        if after is not None:
            self._run, (self._seq, self._hash) = after[0], (after[1].seq, after[1].hash)
        self._sent = self._hash
        """Of the newest record that was sent: what the next batch follows."""
        self._run_changed = False
        self._last: Future[None] | None = None
        self._failure: StoreError | None = None
        self._timer: asyncio.TimerHandle | None = None

    def record(self, type: EventType, /, **payload: Any) -> Event:  # Any: JSON
        """Record that something happened. Subscribers are called before this returns; the store gets it with `send`.

        NaN and the infinities are kept as the literals `NaN` and `Infinity`: Python's JSON, not the standard's. Secrets
        (`wherry.redaction`) are taken out before anybody sees the event; the first from which, or from a message before
        which, one was taken has `masked`.

        Raises:
            TypeError: A value is not JSON; the message names its key.
        """
        try:
            encoded = canonical(payload)
        except (TypeError, ValueError, RecursionError) as error:
            raise _not_json(type, payload) from error
        body = redact_json(encoded)
        if body is not encoded or self._masked:
            payload, body = self._noted(body)
        summary = digest(body)
        name = type.value
        with self._lock:
            now = time.time()
            seq = self._seq + 1
            hash_ = self._link.hash(self._hash, seq, now, name, summary)
            self._events.append(EventRow(self.run_id, seq, name, now, self.agent, body, hash_))
            self._seq, self._hash = seq, hash_
            if type in _OF_THE_RUN:
                self._note_run(type, now, payload)
        event = Event(self.run_id, self.parent_run_id, self.agent, seq, now, type, payload)
        self._tell(event)
        return event

    def _noted(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        """A payload from which a secret was taken out, or the first behind such a message: the first one says so."""
        payload = parse(body)
        if self._masked is not None:
            self._masked, payload["masked"] = None, True
            body = canonical(payload)
        return payload, body

    def tell(self, type: EventType, /, **payload: Any) -> None:  # Any: JSON
        """Tell subscribers of something that is not kept: it has no place in the run's order, and no store gets it."""
        self._tell(Event(self.run_id, self.parent_run_id, self.agent, 0, time.time(), type, payload))

    def _tell(self, event: Event) -> None:
        for fn, error in self.tree.tell(event):
            name = getattr(fn, "__qualname__", repr(fn))
            self.record(
                EventType.WARNING,
                message=f"subscriber {name} was dropped: {error.__class__.__name__}: {error}",
                hint="an exception in a subscriber does not end the run; mend it and subscribe again",
            )

    def keep(self, message: Message) -> str:
        """Keep a message with the next batch, unless this journal did already; returns its digest.

        What is kept, and what the digest is of, is the message without secrets (`wherry.redaction`).
        """
        encoded = message.encode()
        body = redact_json(encoded)
        name = digest(body)
        if body is not encoded and self._masked is False:
            self._masked = True
        with self._lock:
            if name not in self._kept:
                self._kept.add(name)
                if self._quotable and len(body) >= LEAST_BODY:
                    body = self._quoting(name, body)
                self._messages.append((name, body))
        return name

    def _quoting(self, name: str, body: bytes) -> bytes:
        """The body in pieces, where others have them; else as it is, and others may have parts of it."""
        made = quoting(body, (other for other in self._quotable if other.digest != name))
        if made is None and (one := quotable(name, body)) is not None:
            self._quotable = (*self._quotable, one)
        return body if made is None else made

    def may_quote(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Messages in the store, with their digests, of which those that are kept from now on may have parts: the store
        keeps these parts once."""
        if not getattr(self.store, "keeps_pieces", False):  # a store of somebody's own may know nothing of it
            return
        found = [one for name, body in messages if (one := quotable(name, body)) is not None]
        with self._lock:
            self._quotable = (*self._quotable, *found)

    def knows(self, digests: Iterable[str]) -> None:
        """Messages that are in the store already: they are not written again."""
        with self._lock:
            self._kept.update(digests)

    def send(self) -> None:
        """Hand what is recorded to the store; does not wait. A failure is reported by the next `commit`."""
        with self._lock:
            if not (self._events or self._messages or self._run_changed):
                return
            run = self._run if self._run_changed else None
            batch = Batch(tuple(self._events), tuple(self._messages), run, tuple(self._anchors), after=self._sent)
            self._sent = self._hash
            self._events.clear()
            self._messages.clear()
            self._anchors.clear()
            self._run_changed = False
            if self._failure is not None:
                return
            try:
                sent = self._last = self.store.append(batch)  # under the lock: batches must arrive in order
            except StoreError as error:
                self._failure = error
                return
        sent.add_done_callback(self._settle)

    def send_soon(self) -> None:
        """`send` within `SOON` seconds, or with what is sent before: a model that answers at once costs one write less.

        Call it inside a running event loop, for what may be lost with the process: it is done again then.
        """
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON, self._send_now)

    def _send_now(self) -> None:
        self._timer = None
        self.send()

    async def commit(self) -> None:
        """Hand what is recorded to the store and wait until it is durable.

        Raises:
            StoreError: This batch or an earlier one was not written.
        """
        self.send()
        last = self._last
        if last is not None and not last.done():
            loop = asyncio.get_running_loop()
            durable = loop.create_future()

            def wake(_: Future[None]) -> None:
                try:
                    loop.call_soon_threadsafe(_finish, durable)
                except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
                    return

            # Not asyncio.wrap_future: cancelling this task must not cancel the write.
            last.add_done_callback(wake)
            await durable
        if last is not None and last.done() and self._failure is None:
            self._settle(last)  # its callback may not have run yet
        if self._failure is not None:
            raise type(self._failure)(
                self._failure.message, hint=self._failure.hint, run_id=self.run_id, diagnosis=self._failure.diagnosis
            ) from self._failure

    def subscribe(self, fn: Subscriber) -> Callable[[], None]:
        """Call `fn` with every event of the whole tree from now on; returns what ends it."""
        return self.tree.subscribe(fn)

    def child(self, agent: str) -> RunJournal:
        """The journal of a new run that this one's agent calls."""
        return Journal.start(self.store, agent=agent, parent=self)

    def _settle(self, done: Future[None]) -> None:
        error = done.exception()
        if error is None or self._failure is not None:
            return
        self._failure = (
            error if isinstance(error, StoreError) else StoreError(f"the journal was not written: {error!r}")
        )

    def _note_run(self, type_: EventType, now: float, payload: Mapping[str, Any]) -> None:
        """Keep the run's row in step with its first and last event. The lock is held."""
        if self._run is None:
            self._run = RunRow(self.run_id, parent_run_id=self.parent_run_id, agent=self.agent, started=now)
        if type_ is EventType.RUN_STARTED:
            task = payload.get("task") or ""
            self._run = replace(
                self._run,
                task=str(task)[:TASK_PREVIEW],
                session=payload.get("session"),
                model=payload.get("model"),
                started=now,
            )
        elif type_ is EventType.RUN_RESUMED:
            self._run = replace(self._run, status="running", finished=None)
        else:
            status, usage = payload.get("status", "completed"), payload.get("usage")
            self._run = replace(self._run, status=str(status), usage=usage, finished=now)
        self._anchors.append(
            anchor(type_, now, self.run_id, parent_run_id=self.parent_run_id, records=self._seq, hash_=self._hash)
        )
        self._run_changed = True


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _not_json(type_: EventType, payload: Mapping[str, Any]) -> TypeError:
    for key, value in payload.items():
        try:
            canonical(value)
        except (TypeError, ValueError, RecursionError) as error:
            return TypeError(f"`{key}` of a `{type_}` event cannot be written as JSON: {error}")
    return TypeError(f"the payload of a `{type_}` event cannot be written as JSON")
