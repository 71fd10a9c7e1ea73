"""What a store on any SQL database is made of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future

from wherry.store.approvals import SQLApprovals
from wherry.store.artifacts import SQLArtifacts
from wherry.store.cache import SQLCache
from wherry.store.changes import SQLChanges
from wherry.store.contents import Contents
from wherry.store.database import Database
from wherry.store.memo import SQLMemo
from wherry.store.parts import Memo, MemoElsewhere, TextIndex
from wherry.store.rates import SQLRates
from wherry.store.records import AnchorRow, Batch, EventRow, RunRow
from wherry.store.runs import SQLRuns
from wherry.store.sessions import SQLSessions
from wherry.store.transcripts import SQLTranscripts


class SQLStore:
    """The parts, put together on one database.

    Args:
        append: Writes a batch.
        close: Writes what is queued and closes the database.
        memo: A memo that is kept elsewhere.
    """

    keeps_pieces = True
    """Whether bodies of messages may be given in pieces (`wherry.store.composed`)."""

    def __init__(
        self,
        database: Database,
        *,
        contents: Contents,
        search: TextIndex,
        append: Callable[[Batch], Future[None]],
        close: Callable[[], object],
        memo: MemoElsewhere | None = None,
    ) -> None:
        self.url = database.url
        self.memo: Memo = memo or SQLMemo(database)
        self.artifacts = SQLArtifacts(database, contents)
        self.search = search
        self.transcripts = SQLTranscripts(database)
        self.cache = SQLCache(database)
        self.rates = SQLRates(database)
        self.approvals = SQLApprovals(database)
        self.changes = SQLChanges(database)
        self._runs = SQLRuns(database)
        self._sessions = SQLSessions(database)
        self._append = append
        self._close = close
        self._elsewhere = memo

    def append(self, batch: Batch) -> Future[None]:
        return self._append(batch)

    def events(self, run_id: str, *, after: int = 0) -> Iterator[EventRow]:
        return self._runs.events(run_id, after=after)

    def last_event(self, run_id: str) -> EventRow | None:
        return self._runs.last_event(run_id)

    def message(self, digest: str) -> bytes:
        return self._runs.message(digest)

    def messages(self, digests: Collection[str]) -> dict[str, bytes]:
        return self._runs.messages(digests)

    def run(self, run_id: str) -> RunRow:
        return self._runs.run(run_id)

    def runs(
        self,
        *,
        limit: int = 50,
        session: str | None = None,
        children: bool = False,
        before: float | None = None,
        parent: str | None = None,
        since: float | None = None,
        status: str | None = None,
        agent: str | None = None,
        model: str | None = None,
    ) -> list[RunRow]:
        return self._runs.runs(
            limit=limit,
            session=session,
            children=children,
            before=before,
            parent=parent,
            since=since,
            status=status,
            agent=agent,
            model=model,
        )

    def anchors(self, *, after: int = 0) -> Iterator[AnchorRow]:
        return self._runs.anchors(after=after)

    def last_anchor(self) -> AnchorRow | None:
        return self._runs.last_anchor()

    def forget(self, run_id: str, *, anchor: bytes) -> int:
        return self._runs.forget(run_id, anchor=anchor)

    def sweep(self, used: Iterable[str], *, before: float) -> int:
        return self._runs.sweep(used, before=before)

    def save_session(self, session: str, state: bytes, *, expected: int | None = None) -> int:
        return self._sessions.save(session, state, expected=expected)

    def load_session(self, session: str) -> bytes | None:
        return self._sessions.load(session)

    def session_revision(self, session: str) -> int:
        return self._sessions.revision(session)

    def delete_session(self, session: str) -> bool:
        return self._sessions.delete(session)

    def close(self) -> None:
        self._close()
        if self._elsewhere is not None:
            self._elsewhere.close()
