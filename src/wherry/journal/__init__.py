"""What happened in a run: events, written once, chained by hashes, read by everything else."""

from __future__ import annotations

from wherry.journal.anchors import Head, Report, head, verify_store
from wherry.journal.chain import Break, genesis, verify
from wherry.journal.events import Event, EventType, Subscriber
from wherry.journal.reading import digests_of_request, messages_of_request, read_events, schemas_of_request
from wherry.journal.recording import Journal, RunJournal

__all__ = [
    "Break",
    "Event",
    "EventType",
    "Head",
    "Journal",
    "Report",
    "RunJournal",
    "Subscriber",
    "digests_of_request",
    "genesis",
    "head",
    "messages_of_request",
    "read_events",
    "schemas_of_request",
    "verify",
    "verify_store",
]
