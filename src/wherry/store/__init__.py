"""Where runs are kept: one protocol, a backend on SQLite (file or memory)."""

from __future__ import annotations

from wherry.store.parts import Approvals, Artifacts, Cache, Changes, Memo, Rates, TextIndex, Transcripts
from wherry.store.protocol import Store
from wherry.store.records import AnchorRow, ApprovalRow, ArtifactRef, Batch, Entry, EventRow, Hit, Participant, RunRow
from wherry.store.url import open_store

__all__ = [
    "AnchorRow",
    "ApprovalRow",
    "Approvals",
    "ArtifactRef",
    "Artifacts",
    "Batch",
    "Cache",
    "Changes",
    "Entry",
    "EventRow",
    "Hit",
    "Memo",
    "Participant",
    "Rates",
    "RunRow",
    "Store",
    "TextIndex",
    "Transcripts",
    "open_store",
]
