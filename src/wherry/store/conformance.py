"""What every store must do, as one function that a backend's own tests call. The parts are in `conformance_parts`."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager

from wherry.errors import RunNotFound, StoreConflict, StoreError
from wherry.store.conformance_parts import ODD, PARTS, hold, together
from wherry.store.protocol import Store
from wherry.store.records import Batch, EventRow, RunRow

THREADS = 4


def check_store(make: Callable[[], Store]) -> None:
    """Open stores and check every sentence of `wherry.store.protocol` and `wherry.store.parts`.

    What is checked between processes is checked here between threads, and between two stores where `make` opens the
    same data again. What the store held before is left alone, but for its cache, which is pruned.

    Args:
        make: Opens the store. It may be new each time, or the same data.

    Raises:
        AssertionError: A sentence does not hold; the message is the sentence.
    """
    store, other = make(), make()
    try:
        for check in (_batches, _messages, _order, _threads, _runs, _sessions):
            check(store, secrets.token_hex(8))
        for part in PARTS:
            part(store, secrets.token_hex(8))
        name = secrets.token_hex(8)
        store.save_session(name, b"state")
        if other.load_session(name) == b"state":
            _two(store, other, name)
    finally:
        store.close()
        other.close()
    _closed(store)


def _event(run_id: str, seq: int, *, agent: str = "a", body: bytes = b"{}") -> EventRow:
    return EventRow(run_id, seq, "warning", 1.5, agent, body, b"h" * 32)


def _message(body: bytes) -> tuple[str, bytes]:
    return hashlib.sha256(body).hexdigest(), body


@contextmanager
def _refused(error: type[Exception], sentence: str) -> Generator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(sentence)


def _batches(store: Store, name: str) -> None:
    rows = tuple(_event(name, n, agent=ODD, body=b'{"n":%d,"\xed\xa0\x80":"\0"}' % n) for n in range(1, 1203))
    run = RunRow(name, agent=ODD, task=ODD, session=ODD + name, started=1.25, usage={"requests": 1, "usd": None})
    store.append(Batch(rows, (_message(name.encode()),), run)).result()
    hold(tuple(store.events(name)) == rows, "events come back as they were given, lone surrogates and NUL included")
    hold(tuple(store.events(name, after=1200)) == rows[1200:], "`after` leaves out the events up to it")
    hold(not list(store.events(f"{name}-none")), "a run that is not there has no events")
    hold(store.last_event(name) == rows[-1], "the last event of a run is found")
    hold(store.last_event(f"{name}-none") is None, "a run that is not there has no last event")
    hold(store.run(name) == run, "a run's row comes back as it was given")
    hold(store.message(_message(name.encode())[0]) == name.encode(), "a message comes back under its digest")
    store.append(Batch()).result()


def _messages(store: Store, name: str) -> None:
    digest, body = _message(name.encode())
    for _ in range(2):
        store.append(Batch(messages=((digest, body), (digest, body)))).result()
    hold(store.message(digest) == body, "a message may be stored again")
    absent = hashlib.sha256(b"missing" + body).hexdigest()
    for missing in (absent, "no digest", ""):
        with _refused(StoreError, "a missing message is a StoreError"):
            store.message(missing)
    found = store.messages([digest, absent, digest])
    hold(found == {digest: body}, "`messages` gives those that are there")


def _order(store: Store, name: str) -> None:
    store.append(Batch((_event(name, 1), _event(name, 2)))).result()
    for wrong in (1, 2, 4):
        lost, body = _message(b"%d %s" % (wrong, name.encode()))
        failed = store.append(Batch((_event(name, wrong),), ((lost, body),)))
        hold(isinstance(failed.exception(), StoreError), "a batch that does not follow fails with StoreError")
        with _refused(StoreError, "nothing of a batch that failed is stored"):
            store.message(lost)
    failed = store.append(Batch((_event(name, 3), _event(name, 5))))
    hold(isinstance(failed.exception(), StoreError), "a batch with a gap fails with StoreError")
    store.append(Batch((_event(name, 3),))).result()
    hold([row.seq for row in store.events(name)] == [1, 2, 3], "what follows is taken after a failure")
    last = _event(name, 3).hash
    for _ in range(2):  # the second time, the store has nothing in memory of the run's end
        failed = store.append(Batch((_event(name, 4),), after=bytes(32)))
        hold(
            isinstance(failed.exception(), StoreConflict),
            "one that follows another record is a StoreConflict",
        )
    store.append(Batch((_event(name, 4),), after=last)).result()
    store.append(Batch((_event(name, 5),), after=_event(name, 4).hash)).result()
    hold([row.seq for row in store.events(name)] == [1, 2, 3, 4, 5], "one that follows the last record is taken")


def _threads(store: Store, name: str) -> None:
    def write(run_id: str) -> None:
        for future in [store.append(Batch((_event(run_id, n),))) for n in range(1, 51)]:
            future.result()

    together(*(lambda n=n: write(f"{name}-{n}") for n in range(THREADS)))
    for n in range(THREADS):
        seqs = [row.seq for row in store.events(f"{name}-{n}")]
        hold(seqs == list(range(1, 51)), "batches of one run are written in the order of their `append` calls")


def _runs(store: Store, name: str) -> None:
    for n, (parent, session) in enumerate([(None, name), (None, None), (f"{name}-0", name), (None, name)]):
        row = RunRow(f"{name}-{n}", parent_run_id=parent, agent="a", session=session, started=4e9 + n)
        store.append(Batch(run=row)).result()
    listed = [row.run_id for row in store.runs(limit=3)]
    hold(listed == [f"{name}-3", f"{name}-1", f"{name}-0"], "runs are listed newest first, without children")
    listed = [row.run_id for row in store.runs(limit=2, children=True)]
    hold(listed == [f"{name}-3", f"{name}-2"], "children are listed when asked for, and `limit` is kept")
    listed = [row.run_id for row in store.runs(session=name)]
    hold(listed == [f"{name}-3", f"{name}-0"], "runs are listed by session")
    listed = [row.run_id for row in store.runs(session=name, since=4e9 + 1, before=4e9 + 4)]
    hold(listed == [f"{name}-3"], "runs are listed by time: from `since` on, before `before`")
    for n, status in enumerate(("running", "waiting", "running")):
        finished = None if status == "running" else 4e9 + 20
        row = RunRow(
            f"{name}-f{n}", agent=f"{name}{ODD}", status=status, model=f"m{n}", started=4e9 + 10, finished=finished
        )
        store.append(Batch(run=row)).result()
    listed = [row.run_id for row in store.runs(agent=f"{name}{ODD}", status="running")]
    hold(listed == [f"{name}-f2", f"{name}-f0"], "runs are listed by agent and status")
    listed = [row.run_id for row in store.runs(agent=f"{name}{ODD}", model="m1")]
    hold(listed == [f"{name}-f1"], "runs are listed by model")
    listed = [row.run_id for row in store.runs(parent=f"{name}-0")]
    hold(listed == [f"{name}-2"], "runs are listed by the one that started them")
    for n in range(4):
        ended = RunRow(f"{name}-{n}", agent="a", status="completed", started=float(n), finished=9.0, usage={"usd": "1"})
        store.append(Batch(run=ended)).result()
        hold(store.run(f"{name}-{n}").finished == 9.0, "a run's row is written anew")
    with _refused(RunNotFound, "a missing run is RunNotFound"):
        store.run(f"{name}-none")


def _sessions(store: Store, name: str) -> None:
    hold(store.load_session(name) is None and store.session_revision(name) == 0, "a new session has no state")
    hold(store.save_session(name, b"\0one") == 1, "the first save makes revision 1")
    hold(store.save_session(name, b"two", expected=1) == 2, "a save that expects the present revision gets through")
    for wrong in (0, 1, 3):
        with _refused(StoreConflict, "a save that expects another revision is StoreConflict"):
            store.save_session(name, b"lost", expected=wrong)
    hold(store.load_session(name) == b"two", "a refused save changes nothing")
    hold(store.save_session(name, b"three") == store.session_revision(name) == 3, "a save may expect nothing")
    hold(store.save_session(f"{name}{ODD}", b"", expected=0) == 1, "a session's name may be any text")
    won: list[int] = []

    def save() -> None:
        try:
            won.append(store.save_session(name, b"four", expected=3))
        except StoreConflict:
            return

    together(*[save] * THREADS)
    hold(won == [4], "of several saves that expect the same revision exactly one gets through")


def _two(store: Store, other: Store, name: str) -> None:
    """Between two stores on the same data."""
    store.append(Batch((_event(name, 1),))).result()
    other.append(Batch((_event(name, 2),))).result()
    hold(
        isinstance(store.append(Batch((_event(name, 2),))).exception(), StoreError),
        "of two that go on with a run one is refused",
    )
    positions: list[int] = []
    together(
        *(
            lambda end=end: positions.extend(end.transcripts.append(name, "a", "0" * 64) for _ in range(10))
            for end in (store, other)
        )
    )
    hold(sorted(positions) == list(range(1, 21)), "concurrent appends to a transcript get different positions")
    taken: list[float] = []

    def take(end: Store) -> None:
        taken.extend(end.rates.take(name, cost=1, rate_per_minute=0.001, burst=7) for _ in range(10))

    together(lambda: take(store), lambda: take(other))
    hold(taken.count(0.0) == 7, "a rate is kept by all together")
    store.memo.set(name, "n", 0)

    def count(end: Store) -> None:
        for _ in range(10):
            while True:
                seen = end.memo.get(name, "n")
                if isinstance(seen, int) and end.memo.compare_and_set(name, "n", expected=seen, value=seen + 1):
                    break

    together(lambda: count(store), lambda: count(other))
    hold(store.memo.get(name, "n") == 20, "of several callers with the same expectation exactly one gets through")


def _closed(store: Store) -> None:
    uses: list[Callable[[], object]] = [
        lambda: store.append(Batch()),
        lambda: store.run("r"),
        lambda: store.load_session("s"),
        lambda: store.memo.set("s", "k", 1),
        lambda: store.artifacts.put(b"x", media_type="a/b", run_id="r"),
        lambda: store.search.find("s", "q"),
        lambda: store.cache.put("k", b"v"),
    ]
    for use in uses:
        with _refused(StoreError, "a closed store refuses all use with StoreError"):
            use()
    store.close()
