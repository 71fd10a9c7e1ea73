"""The schema, as a list of small steps.

A step is never changed once it was released: a new one is added at the end. `PRAGMA user_version` counts the steps
that a database has seen.

Texts that come from people or models (agent, task, session, scope, key) are BLOBs: UTF-8 with lone surrogates kept,
which neither SQLite's nor PostgreSQL's TEXT takes. Compared byte by byte, they sort by code point.
"""

from __future__ import annotations

import sqlite3

from wherry.errors import StoreError, StoreVersionError
from wherry.failpoints import failpoint

APPLICATION_ID = 0x77687279
"""In the database's header, so that another program's file is not taken for a store."""

CHANGES = "('tools.changed', 'prompt.changed', 'model.changed', 'policy.changed')"
"""Of these types are the records that say that something changed. A part of a released step: never another."""

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "runs",
        (
            """CREATE TABLE runs (
                run_id TEXT PRIMARY KEY,
                parent_run_id TEXT,
                agent BLOB NOT NULL,
                task BLOB NOT NULL,
                status TEXT NOT NULL,
                session BLOB,
                started REAL NOT NULL,
                finished REAL,
                usage BLOB
            ) WITHOUT ROWID""",
            "CREATE INDEX runs_started ON runs (started)",
            "CREATE INDEX runs_top ON runs (started) WHERE parent_run_id IS NULL",
            "CREATE INDEX runs_session ON runs (session, started) WHERE session IS NOT NULL",
            "CREATE INDEX runs_parent ON runs (parent_run_id) WHERE parent_run_id IS NOT NULL",
        ),
    ),
    (
        # A rowid table: new rows go to the end of the file whichever run they are of, and bodies of any size stay out
        # of the index. The rowid orders the events of all runs as they were committed.
        "events",
        (
            """CREATE TABLE events (
                id INTEGER PRIMARY KEY,
                run_id TEXT NOT NULL,
                seq INTEGER NOT NULL,
                type TEXT NOT NULL,
                time REAL NOT NULL,
                agent BLOB NOT NULL,
                body BLOB NOT NULL,
                hash BLOB NOT NULL,
                UNIQUE (run_id, seq)
            )""",
        ),
    ),
    ("messages", ("CREATE TABLE messages (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body BLOB NOT NULL)",)),
    ("sessions", ("CREATE TABLE sessions (session BLOB PRIMARY KEY, state BLOB NOT NULL, saved REAL NOT NULL)",)),
    (
        "memo",
        (
            """CREATE TABLE memo (
                scope BLOB NOT NULL,
                key BLOB NOT NULL,
                value BLOB NOT NULL,
                saved REAL NOT NULL,
                PRIMARY KEY (scope, key)
            )""",
        ),
    ),
    (
        "artifacts",
        (
            """CREATE TABLE artifacts (
                ref TEXT PRIMARY KEY,
                sha256 BLOB NOT NULL UNIQUE,
                bytes INTEGER NOT NULL,
                media_type BLOB NOT NULL,
                lines INTEGER NOT NULL,
                run_id TEXT NOT NULL,
                saved REAL NOT NULL
            ) WITHOUT ROWID""",
        ),
    ),
    ("session revisions", ("ALTER TABLE sessions ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",)),
    (
        "memo times",
        (
            "ALTER TABLE memo ADD COLUMN expires REAL",
            "CREATE INDEX memo_expires ON memo (expires) WHERE expires IS NOT NULL",
        ),
    ),
    (
        "artifact links",
        (
            """CREATE TABLE artifact_links (
                run_id BLOB NOT NULL,
                ref TEXT NOT NULL,
                PRIMARY KEY (run_id, ref)
            ) WITHOUT ROWID""",
            "CREATE INDEX artifact_links_ref ON artifact_links (ref)",
            "INSERT INTO artifact_links (run_id, ref) SELECT CAST(run_id AS BLOB), ref FROM artifacts",
        ),
    ),
    (
        # AUTOINCREMENT: the number of a space that was dropped must not come again, the index may still know it.
        "search",
        (
            "CREATE TABLE search_spaces (id INTEGER PRIMARY KEY AUTOINCREMENT, space BLOB NOT NULL UNIQUE, "
            "position INTEGER NOT NULL)",
            """CREATE TABLE search_items (
                id INTEGER PRIMARY KEY,
                space INTEGER NOT NULL,
                key BLOB NOT NULL,
                text BLOB NOT NULL,
                words BLOB,
                UNIQUE (space, key)
            )""",
            "CREATE VIRTUAL TABLE search_words USING fts5(space, words, content='', tokenize='ascii')",
        ),
    ),
    (
        "transcripts",
        (
            """CREATE TABLE transcripts (
                transcript BLOB NOT NULL,
                position INTEGER NOT NULL,
                author BLOB NOT NULL,
                digest BLOB NOT NULL,
                PRIMARY KEY (transcript, position)
            ) WITHOUT ROWID""",
            """CREATE TABLE participants (
                transcript BLOB NOT NULL,
                name BLOB NOT NULL,
                position INTEGER NOT NULL,
                state BLOB NOT NULL,
                PRIMARY KEY (transcript, name)
            ) WITHOUT ROWID""",
        ),
    ),
    (
        "cache",
        (
            """CREATE TABLE cache (
                id INTEGER PRIMARY KEY,
                key BLOB NOT NULL UNIQUE,
                value BLOB NOT NULL,
                saved REAL NOT NULL,
                expires REAL
            )""",
            "CREATE INDEX cache_saved ON cache (saved, key)",
            "CREATE INDEX cache_expires ON cache (expires) WHERE expires IS NOT NULL",
        ),
    ),
    ("rates", ("CREATE TABLE rates (key BLOB PRIMARY KEY, full_at REAL NOT NULL) WITHOUT ROWID",)),
    (
        # A record's id is its journal's number and its own: `journal << 32 | seq`. So the records of a run lie side by
        # side, are unique without an index, and take a third less room and time than under (run_id, seq).
        "records by number",
        (
            "CREATE TABLE journals (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE)",
            "INSERT INTO journals (run_id) SELECT DISTINCT run_id FROM events ORDER BY run_id",
            "ALTER TABLE events RENAME TO events_before",
            """CREATE TABLE events (
                id INTEGER PRIMARY KEY,
                type TEXT NOT NULL,
                time REAL NOT NULL,
                agent BLOB NOT NULL,
                body BLOB NOT NULL,
                hash BLOB NOT NULL,
                pruned BLOB
            )""",
            "INSERT INTO events (id, type, time, agent, body, hash) "
            "SELECT j.id << 32 | e.seq, e.type, e.time, e.agent, e.body, e.hash "
            "FROM events_before AS e JOIN journals AS j ON j.run_id = e.run_id ORDER BY 1",
            "DROP TABLE events_before",
        ),
    ),
    (
        "anchors",
        ("CREATE TABLE anchors (position INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL)",),
    ),
    (
        "retention",
        (
            "ALTER TABLE runs ADD COLUMN pruned REAL",
            "ALTER TABLE messages ADD COLUMN saved REAL NOT NULL DEFAULT 0",
        ),
    ),
    (
        "memo sizes",
        (
            "CREATE TABLE memo_sizes (scope BLOB PRIMARY KEY, bytes INTEGER NOT NULL)",
            "INSERT INTO memo_sizes (scope, bytes) "
            "SELECT scope, sum(length(key) + length(value)) FROM memo GROUP BY scope",
        ),
    ),
    (
        "run models",
        (
            "ALTER TABLE runs ADD COLUMN model BLOB",
            "CREATE INDEX runs_open ON runs (status, started) WHERE finished IS NULL",
        ),
    ),
    (
        "approvals",
        (
            """CREATE TABLE approvals (
                id BLOB PRIMARY KEY,
                run_id BLOB NOT NULL,
                root_run_id BLOB NOT NULL,
                created REAL NOT NULL,
                request BLOB NOT NULL,
                decision BLOB,
                decided REAL
            )""",
            "CREATE INDEX approvals_run ON approvals (run_id)",
            "CREATE INDEX approvals_root ON approvals (root_run_id)",
            "CREATE INDEX approvals_pending ON approvals (created) WHERE decision IS NULL",
        ),
    ),
    (
        "versions",
        (
            """CREATE TABLE kept_versions (
                owner BLOB NOT NULL,
                key BLOB NOT NULL,
                value BLOB NOT NULL,
                saved REAL NOT NULL,
                PRIMARY KEY (owner, key)
            )""",
            f"CREATE INDEX events_changes ON events (time) WHERE type IN {CHANGES}",
        ),
    ),
)


def version(connection: sqlite3.Connection) -> int:
    """How many of the steps a database has seen."""
    return connection.execute("PRAGMA user_version").fetchone()[0]


def migrate(connection: sqlite3.Connection, url: str, *, target: int = len(STEPS)) -> None:
    """Bring a database to `target` steps, in one transaction; of several processes one does it.

    Raises:
        StoreVersionError: The database has seen more steps than this wherry knows.
        StoreError: The database is another program's.
    """
    found = version(connection)
    if found == target and _application(connection) == APPLICATION_ID:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = version(connection)  # another process may have migrated while this one waited
        _check_ours(connection, url, found)
        for _, statements in STEPS[found:target]:
            for statement in statements:
                connection.execute(statement)
            failpoint("migration.step")
        # Both pragmas are part of the transaction. They take no parameters; these are our own numbers.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version = {max(found, target):d}")
        failpoint("migration.commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_ours(connection: sqlite3.Connection, url: str, found: int) -> None:
    application = _application(connection)
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application or found or tables):
        raise StoreError(
            f"{url!r} is a database of another program",
            hint="is the path right? Choose another file with WHERRY_STORE",
        )
    if found > len(STEPS):
        raise StoreVersionError(
            f"the store {url!r} was written by a newer wherry: it has version {found}, this one knows {len(STEPS)}",
            hint="pip install --upgrade wherry, or choose another file with WHERRY_STORE",
        )


def _application(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA application_id").fetchone()[0]
