"""Reading a journal back."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.errors import StoreError
from wherry.journal.events import Event, EventType
from wherry.messages import Message, ToolSchema, digest, parse
from wherry.store import EventRow, Store


def read_events(store: Store, run_id: str, *, after: int = 0) -> Iterator[Event]:
    """The committed events of a run with a sequence number above `after`, in order.

    Raises:
        RunNotFound: The store has no such run.
        StoreError: Raised while reading: the run's payloads were pruned, or a newer wherry wrote it.
    """
    run = store.run(run_id)
    return (_event(row, run.parent_run_id) for row in store.events(run_id, after=after))


def digests_of_request(store: Store, run_id: str, n: int) -> list[str]:
    """The digests of the messages of a run's n-th request to its model, n from 1.

    Raises:
        RunNotFound: The store has no such run.
        ValueError: The run made fewer requests.
        StoreError: The records contradict one another.
    """
    store.run(run_id)
    digests: list[str] = []
    made = 0
    for row in store.events(run_id):
        if row.type != EventType.MODEL_REQUESTED:
            continue
        if row.pruned is not None:
            raise _pruned(run_id)
        payload = parse(row.body)
        keep, add = payload["keep"], payload["add"]
        if not 0 <= keep <= len(digests):
            raise StoreError(
                f"record {row.seq} of run {run_id!r} keeps {keep} messages of a request that had {len(digests)}",
                run_id=run_id,
            )
        digests[keep:] = add
        made += 1
        if made == n:
            return digests
    raise ValueError(f"run {run_id!r} has {made} requests; there is no request {n}")


def messages_of_request(store: Store, run_id: str, n: int) -> list[Message]:
    """The messages of a run's n-th request to its model, n from 1, byte for byte as they were sent.

    Raises:
        RunNotFound: The store has no such run.
        ValueError: The run made fewer requests.
        StoreError: The records contradict one another, or a message is missing or damaged.
    """
    names = digests_of_request(store, run_id, n)
    found = store.messages(set(names))
    for name in found.keys() ^ set(names) or [name for name, body in found.items() if digest(body) != name]:
        store.message(name)  # says what is wrong with it
    return [Message.decode(found[name]) for name in names]


def schemas_of_request(store: Store, run_id: str, n: int) -> list[ToolSchema]:
    """The tool schemas that a run's n-th request to its model carried, n from 1.

    Raises:
        RunNotFound: The store has no such run.
        ValueError: The run made fewer requests.
        StoreError: The run's payloads were pruned.
    """
    made = 0
    schemas: list[ToolSchema] = []
    for event in read_events(store, run_id):
        if event.type is not EventType.MODEL_REQUESTED:
            continue
        made += 1
        if "schemas" in event.payload:
            schemas = [ToolSchema.from_json(raw) for raw in event.payload["schemas"]]
        elif "schemas_in" in event.payload:  # as a message's text, where many runs have the same
            kept = Message.decode(store.message(event.payload["schemas_in"])).content
            schemas = [ToolSchema.from_json(raw) for raw in parse(kept.encode("utf-8", "surrogatepass"))]
        if made == n:
            return schemas
    raise ValueError(f"run {run_id!r} has {made} requests; there is no request {n}")


def _event(row: EventRow, parent_run_id: str | None) -> Event:
    if row.pruned is not None:
        raise _pruned(row.run_id)
    try:
        type_ = EventType(row.type)
    except ValueError:
        raise StoreError(
            f"record {row.seq} of run {row.run_id!r} has the type {row.type!r}, which this wherry does not know",
            hint="pip install --upgrade wherry",
            run_id=row.run_id,
        ) from None
    return Event(row.run_id, parent_run_id, row.agent, row.seq, row.time, type_, parse(row.body))


def _pruned(run_id: str) -> StoreError:
    return StoreError(
        f"the payloads of run {run_id!r} were removed by pruning; its chain can still be verified",
        hint="`wherry prune` removes what is older than it was told",
        run_id=run_id,
    )
