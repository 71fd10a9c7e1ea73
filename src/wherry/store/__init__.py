"""Where runs are kept: one protocol, a backend on SQLite (file or memory)."""

from __future__ import annotations

from wherry.store.protocol import Artifacts, Memo, Store
from wherry.store.records import ArtifactRef, Batch, EventRow, RunRow
from wherry.store.url import open_store

__all__ = ["ArtifactRef", "Artifacts", "Batch", "EventRow", "Memo", "RunRow", "Store", "open_store"]
