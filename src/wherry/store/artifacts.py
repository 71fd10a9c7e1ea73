"""Large values under their content: a row says what they are, the bytes are elsewhere."""

from __future__ import annotations

import hashlib
import time

from wherry.errors import StoreError
from wherry.failpoints import failpoint
from wherry.redaction import redact_bytes
from wherry.store.contents import Contents
from wherry.store.database import Connection, Database, blob, text
from wherry.store.records import ArtifactRef

REF_DIGITS = 12
"""A reference has so many digits of the content's digest, and more only where two contents would share them."""


class SQLArtifacts:
    """Artifacts whose rows are in a database.

    Content goes first when something is put, and last when it is removed, and is removed only while no row can appear:
    so there is no row without content, whatever other processes do. What a dying process leaves is content without a
    row, which the next one to put the same takes over.
    """

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents

    def put(self, data: bytes, *, media_type: str, run_id: str) -> ArtifactRef:
        self._database.check_usable()
        if _is_text(media_type):
            data = redact_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        lines = data.count(b"\n") + (not data.endswith(b"\n") and len(data) > 0)

        def keep(connection: Connection | None = None) -> None:
            try:
                self._contents.write(sha256, data, connection=connection)
            except OSError as error:
                raise StoreError(
                    f"an artifact of {len(data):,} bytes cannot be kept beside {self._database.url!r}: "
                    f"{error.strerror or error}",
                    hint="look at the disk's free space and at the permissions of the folder",
                    run_id=run_id,
                ) from error

        def write(connection: Connection) -> ArtifactRef:
            self._database.lock(connection, _lock(sha256))
            known = connection.execute(f"{_SELECT} WHERE sha256 = ?", (bytes.fromhex(sha256),)).fetchone()
            if known is None:
                keep(connection)  # again, and nearly for free: it may have been reclaimed since
                digits = REF_DIGITS
                while connection.execute("SELECT 1 FROM artifacts WHERE ref = ?", (_name(sha256, digits),)).fetchone():
                    digits += 4
                known = (_name(sha256, digits), bytes.fromhex(sha256), len(data), blob(media_type), lines)
                connection.execute(_INSERT, (*known, run_id, time.time()))
                failpoint("artifact.row")
            connection.execute(_LINK, (blob(run_id), known[0]))
            return _artifact(known)

        keep()  # outside of the transaction, which must be short
        failpoint("artifact.kept")
        return self._database.write(write, repeatable=True)

    def read(self, ref: str, offset: int = 0, limit: int | None = None) -> bytes:
        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError(f"offset {offset} and limit {limit} must not be negative")
        known = self.info(ref)
        try:
            data = self._contents.read(known.sha256, offset, limit)
        except (OSError, KeyError) as error:
            raise StoreError(
                f"the content of artifact {ref!r} cannot be read: {error}",
                hint="was the folder beside the store moved or cleaned?",
            ) from error
        whole = offset == 0 and (limit is None or limit >= known.bytes)
        if whole and hashlib.sha256(data).hexdigest() != known.sha256:
            raise StoreError(f"artifact {ref!r} is damaged: its content has another digest than when it was stored")
        return data

    def info(self, ref: str) -> ArtifactRef:
        rows = self._database.read(f"{_SELECT} WHERE ref = ?", (_plain(ref),))
        if not rows:
            raise _unknown(ref)
        return _artifact(rows[0])

    def link(self, ref: str, run_id: str) -> None:
        def write(connection: Connection) -> None:
            row = connection.execute("SELECT sha256 FROM artifacts WHERE ref = ?", (_plain(ref),)).fetchone()
            if row is not None:
                self._database.lock(connection, _lock(row[0].hex()))
                row = connection.execute("SELECT 1 FROM artifacts WHERE ref = ?", (_plain(ref),)).fetchone()
            if row is None:
                raise _unknown(ref)
            connection.execute(_LINK, (blob(run_id), ref))

        self._database.write(write, repeatable=True)

    def reclaim(self, run_id: str) -> int:
        def unlink(connection: Connection) -> list[tuple[str, int]]:
            query = (
                "SELECT a.ref, a.sha256, a.bytes FROM artifact_links AS l JOIN artifacts AS a ON a.ref = l.ref "
                "WHERE l.run_id = ? ORDER BY a.sha256"
            )
            linked = connection.execute(query, (blob(run_id),)).fetchall()
            self._database.lock(connection, *(_lock(sha256.hex()) for _, sha256, _ in linked))
            connection.execute("DELETE FROM artifact_links WHERE run_id = ?", (blob(run_id),))
            gone: list[tuple[str, int]] = []
            for ref, sha256, size in linked:
                if connection.execute("SELECT 1 FROM artifact_links WHERE ref = ?", (ref,)).fetchone() is None:
                    connection.execute("DELETE FROM artifacts WHERE ref = ?", (ref,))
                    gone.append((sha256.hex(), size))
            return gone

        gone = self._database.write(unlink, repeatable=True)
        failpoint("artifact.unlinked")

        def remove(connection: Connection) -> int:
            self._database.lock(connection, *(_lock(sha256) for sha256, _ in gone))
            freed = 0
            for sha256, size in gone:
                if connection.execute(_KNOWN, (bytes.fromhex(sha256),)).fetchone() is None:
                    self._contents.remove(sha256, connection=connection)
                    failpoint("artifact.removed")
                    freed += size
            return freed

        return self._database.write(remove, repeatable=True) if gone else 0

    def sweep(self, *, before: float) -> int:
        self._database.check_usable()
        freed = 0
        for name, size in self._contents.names(before=before):
            digest = _digest(name)
            if digest is not None and self._database.read(_KNOWN, (digest,)):
                continue

            def remove(connection: Connection, name: str = name, digest: bytes | None = digest) -> bool:
                self._database.lock(connection, _lock(name))
                if digest is not None and connection.execute(_KNOWN, (digest,)).fetchone() is not None:
                    return False
                self._contents.remove(name, connection=connection)
                failpoint("artifact.removed")
                return True

            if self._database.write(remove, repeatable=True):
                freed += size
        return freed


_INSERT = """
INSERT INTO artifacts (ref, sha256, bytes, media_type, lines, run_id, saved) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_LINK = "INSERT INTO artifact_links (run_id, ref) VALUES (?, ?) ON CONFLICT (run_id, ref) DO NOTHING"
_KNOWN = "SELECT 1 FROM artifacts WHERE sha256 = ?"
_SELECT = "SELECT ref, sha256, bytes, media_type, lines FROM artifacts"


def _name(sha256: str, digits: int) -> str:
    return f"a-{sha256[:digits]}"


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type.partition(";")[0].endswith(
        ("json", "xml", "yaml", "javascript")
    )


def _digest(name: str) -> bytes | None:
    """The digest that a content has as its name; None for what has none."""
    try:
        return bytes.fromhex(name)
    except ValueError:
        return None


def _lock(sha256: str) -> str:
    return f"artifact:{sha256}"


def _plain(ref: str) -> str:
    """A reference as a database takes it as text; what is none stays none."""
    return ref.replace("\0", "?").encode("utf-8", "replace").decode()


def _unknown(ref: str) -> StoreError:
    return StoreError(f"there is no artifact {ref!r}", hint="references look like `a-0123456789ab`")


def _artifact(row: tuple[str, bytes, int, bytes, int]) -> ArtifactRef:
    ref, sha256, size, media_type, lines = row
    return ArtifactRef(ref, sha256.hex(), size, text(media_type), lines)
