"""What waits for a person's word, and what was decided."""

from __future__ import annotations

from typing import Any

from wherry.failpoints import failpoint
from wherry.redaction import redact_json
from wherry.store.database import Connection, Database, blob, text
from wherry.store.records import ApprovalRow

_COLUMNS = "id, run_id, root_run_id, created, request, decision, decided"


class SQLApprovals:
    """A row a question."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, row: ApprovalRow) -> None:
        values = (
            blob(row.id),
            blob(row.run_id),
            blob(row.root_run_id),
            row.created,
            redact_json(row.request),
            row.decision,
            row.decided,
        )

        def write(connection: Connection) -> None:
            connection.execute(
                f"INSERT INTO approvals ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",  # noqa: S608
                values,
            )
            failpoint("approval.put")

        self._database.write(write, repeatable=True)

    def get(self, id: str) -> ApprovalRow | None:
        rows = self._database.read(f"SELECT {_COLUMNS} FROM approvals WHERE id = ?", (blob(id),))  # noqa: S608
        return _row(rows[0]) if rows else None

    def decide(self, id: str, decision: bytes, at: float) -> bool:
        values = (redact_json(decision), at, blob(id))

        def write(connection: Connection) -> bool:
            query = "UPDATE approvals SET decision = ?, decided = ? WHERE id = ? AND decision IS NULL"
            done = connection.execute(query, values).rowcount == 1
            failpoint("approval.decided")
            return done

        return self._database.write(write)

    def find(
        self,
        *,
        run_id: str | None = None,
        root_run_id: str | None = None,
        pending: bool | None = None,
        limit: int = 100,
    ) -> list[ApprovalRow]:
        conditions = ["true"]
        values: list[Any] = []
        for column, value in (("run_id", run_id), ("root_run_id", root_run_id)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(blob(value))
        if pending is not None:
            conditions.append(f"decision IS {'' if pending else 'NOT '}NULL")
        query = f"SELECT {_COLUMNS} FROM approvals WHERE {' AND '.join(conditions)} ORDER BY created, id LIMIT ?"  # noqa: S608
        return [_row(row) for row in self._database.read(query, (*values, limit))]

    def forget(self, run_id: str) -> None:
        row = (blob(run_id),)

        def write(connection: Connection) -> None:
            connection.execute("DELETE FROM approvals WHERE run_id = ?", row)

        self._database.write(write, repeatable=True)


def _row(row: tuple[Any, ...]) -> ApprovalRow:
    id_, run_id, root_run_id, created, request, decision, decided = row
    return ApprovalRow(text(id_), text(run_id), text(root_run_id), created, request, decision, decided)
