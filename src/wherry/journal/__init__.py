"""What happened in a run: events, written once, chained by hashes, read by everything else."""

from __future__ import annotations

from wherry.journal.chain import Break, genesis, verify
from wherry.journal.events import Event, EventType, Subscriber
from wherry.journal.reading import digests_of_request, messages_of_request, read_events
from wherry.journal.recording import Journal, RunJournal

__all__ = [
    "Break",
    "Event",
    "EventType",
    "Journal",
    "RunJournal",
    "Subscriber",
    "digests_of_request",
    "genesis",
    "messages_of_request",
    "read_events",
    "verify",
]
