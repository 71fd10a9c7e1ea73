"""Places where a process can be killed on purpose, to see that nothing is lost: one at every boundary of a write.

    WHERRY_FAILPOINT=artifact.renamed       kill -9 the first time that this place is passed
    WHERRY_FAILPOINT=transaction.commit:7   the seventh time
    WHERRY_FAILPOINT=*:31                   the 31st time that any place is passed
    WHERRY_FAILPOINT=trace:FILE             kill nothing; append the name of every place that is passed to a file

The variable is read once, at import. Without it a place is a call of a function that does nothing: some 30 ns, about
20 times in a step of an agent.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

VARIABLE = "WHERRY_FAILPOINT"

FAILPOINTS: dict[str, str] = {
    "run.resumed": "a run that goes on has that on record, and nothing was done yet",
    "reply.came": "a model has answered, and nothing of that is recorded",
    "call.committed": "a tool's call is on record, and not made",
    "tool.ran": "a tool has run, its result is not recorded",
    "snippet.committed": "a snippet is on record, and was not run",
    "snippet.ran": "a snippet has run, nothing of its end is recorded",
    "child.called": "the call of a managed agent is on record, its run has none",
    "child.returned": "a managed agent's run is over, its manager has not gone on",
    "run.finishing": "a run is at its end, which is not recorded",
    "transaction.begin": "a write was asked for; its transaction is not begun",
    "batch.messages": "a batch's messages are inserted, its records are not",
    "batch.events": "a batch's records are inserted, the run's row is not",
    "batch.run": "the run's row is written, its anchors are not",
    "batch.anchors": "all of a batch is inserted",
    "transaction.commit": "everything is written, and not committed",
    "transaction.committed": "it is committed, and nobody was told",
    "checkpoint.begin": "the write-ahead log is about to be moved into the database",
    "checkpoint.half": "most of the log was moved, the rest is about to be",
    "checkpoint.end": "the log was moved",
    "migration.step": "a step of the schema was done, in a transaction with all others",
    "migration.commit": "all steps were done, and not committed",
    "approval.put": "a question to a person is inserted",
    "approval.decided": "its answer is written",
    "versions.written": "what an agent is made of is written",
    "artifact.created": "the file that is to become an artifact's content is there, and empty",
    "artifact.written": "its bytes are written, perhaps not to the disk",
    "artifact.synced": "its bytes are on the disk, under a name of no meaning",
    "artifact.renamed": "it has its name",
    "artifact.kept": "the content is kept, wherever that is; there is no row",
    "artifact.row": "the row is inserted, the link is not",
    "artifact.unlinked": "the rows are gone, the content is not",
    "artifact.removed": "the content of one is removed",
    "memo.value": "a memo's value is written, its scope's size is not",
    "memo.put": "both are written",
    "memo.removed": "a value is removed, the scope's size is not told",
    "memo.redis": "Redis is about to be told",
    "memo.redis.done": "Redis was told",
    "session.saved": "a session's state is written, in a transaction",
    "transcript.appended": "an entry is written, in a transaction",
    "search.item": "an item is in the index, its cursor is not moved",
    "search.added": "the cursor is moved, too",
    "prune.reclaimed": "a run's artifacts are removed, its payloads are not",
    "prune.run": "a run is pruned, the next one is not",
    "prune.swept": "messages that nobody names are removed",
}
"""What is true when a process dies at each."""


def _places(wanted: str) -> Callable[[str], None]:
    """What to do when a place is passed.

    Raises:
        ValueError: The variable names no place.
    """
    name, _, rest = wanted.partition(":")
    if name == "trace":
        return _tracing(rest)
    if name not in FAILPOINTS and name != "*":
        raise ValueError(f"{VARIABLE}={wanted!r} names no place; there are {', '.join(FAILPOINTS)}")
    if not (rest.isdecimal() or not rest):
        raise ValueError(f"{VARIABLE}={wanted!r} has no number behind the colon")
    left, lock = int(rest or "1"), threading.Lock()

    def passed(place: str) -> None:
        nonlocal left
        _known(place)
        if name in (place, "*"):
            with lock:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    return passed


def _tracing(path: str) -> Callable[[str], None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def passed(place: str) -> None:
        _known(place)
        os.write(descriptor, f"{place}\n".encode())

    return passed


def _known(place: str) -> None:
    if place not in FAILPOINTS:
        raise ValueError(f"the place {place!r} is not listed in `wherry/failpoints.py`")


def _nothing(place: str) -> None:
    return


failpoint: Callable[[str], None] = _places(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _nothing
"""Say that a place is passed."""
