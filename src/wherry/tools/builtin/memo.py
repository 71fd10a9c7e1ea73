"""`memo`: notes that outlive the run, in the run's store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal  # Any: a note is any JSON value
from weakref import WeakKeyDictionary

from wherry.errors import ToolError
from wherry.messages import JSON, canonical, digest, parse
from wherry.redaction import redact_json
from wherry.tools.context import ToolContext, current_context
from wherry.tools.tool import Tool
from wherry.tools.values import as_json

if TYPE_CHECKING:
    from wherry.store.protocol import Store

MAX_KEYS = 20
"""Keys that are named when one is not found."""
SHOWN_CHARS = 200
"""Of a note that was replaced or changed by somebody else."""
REMEMBERED = 10_000
"""Notes of which the tool remembers what each run saw last."""

Scope = Literal["run", "session", "agent", "shared"]


class MemoTool(Tool):
    """A key-value store with the actions set, get, list and delete. What is set is durable when the call returns.

    Runs that work at the same time do not overwrite one another silently: a note that somebody else changed since this
    run saw it is not replaced, and the run is told what it is now; a note that this run never saw is replaced, and the
    run is told what was there.

    Args:
        scope: Who shares the notes: `"shared"`, whoever uses the same store; `"agent"`, the runs of agents of that
            name; `"session"`, the runs of the session; `"run"`, nobody. Any other text is a scope of that name.
        ttl: Seconds after which a note is gone; None: never.
        name: The tool's name, for an agent that has several memos.
    """

    name = "memo"
    gives_back = True
    description = "Keep notes that last: set, get, list or delete a value by its key."

    def __init__(self, *, scope: Scope | str = "shared", ttl: float | None = None, name: str | None = None) -> None:
        self.scope = scope
        self.ttl = ttl
        if name is not None:
            self.name = name
        self._seen: WeakKeyDictionary[Store, OrderedDict[tuple[str, str, str], str]] = WeakKeyDictionary()
        """Store -> (run, scope, key) -> the digest of the note as the run saw it last."""
        self._lock = threading.Lock()

    def forward(
        self, action: Literal["set", "get", "list", "delete"], key: str | None = None, value: Any = None
    ) -> Any:  # Any: the note, or what was done
        """Do one of the four.

        Args:
            action: list needs no key
            key: the note's name
            value: what to set
        """
        context = current_context()
        notes, scope = context.store.memo, self._scope(context)
        if action == "list":
            found = notes.list(scope)
            for name, note in found.items():
                self._saw(context, scope, name, note)
            return found
        if not key:
            raise ToolError(f"memo: {action} needs a key")
        if action == "get":
            note = notes.get(scope, key)
            self._saw(context, scope, key, note)
            if note is None:
                raise ToolError(f"memo has no {key!r}; it has {_told(notes.list(scope))}")
            return note
        if action == "delete":
            before = self._replace(context, scope, key, None)
            return f"there was no {key!r}" if before is None else f"deleted {key!r}"
        if value is None:
            raise ToolError("memo: set needs a value")
        known = self._last_seen(context, scope, key)
        note = parse(redact_json(canonical(as_json(value))))
        before = self._replace(context, scope, key, note)
        if before is None or before == note or known is not None:
            return f"noted {key!r}"
        return f"noted {key!r}, in place of {_shown(before)}"

    def _replace(self, context: ToolContext, scope: str, key: str, value: JSON) -> JSON:
        """Put a value, or with None nothing, in place of what the run saw last; gives what was there.

        Raises:
            ToolError: Somebody else changed it since; or it is too large.
        """
        notes, known = context.store.memo, self._last_seen(context, scope, key)
        while True:
            before = notes.get(scope, key)
            if known is not None and digest(canonical(before)) != known:
                self._saw(context, scope, key, before)
                now = "it is gone" if before is None else f"it is {_shown(before)}"
                raise ToolError(
                    f"memo: somebody else changed {key!r} since you saw it: {now}. Do it again to replace that"
                )
            try:
                done = notes.compare_and_set(scope, key, expected=before, value=value, ttl=self.ttl)
            except ValueError as error:
                raise ToolError(f"memo: {error}") from error
            if done:
                self._saw(context, scope, key, value)
                return before

    def _scope(self, context: ToolContext) -> str:
        if self.scope == "run":
            return f"run:{context.run_id}"
        if self.scope == "agent":
            return f"agent:{context.agent}"
        if self.scope == "session":
            if context.session is None:
                raise ToolError("this memo belongs to a session, and this run has none")
            return f"session:{context.session}"
        return self.scope

    def _saw(self, context: ToolContext, scope: str, key: str, value: JSON) -> None:
        with self._lock:
            seen = self._seen.setdefault(context.store, OrderedDict())
            seen[context.run_id, scope, key] = digest(canonical(value))
            seen.move_to_end((context.run_id, scope, key))
            while len(seen) > REMEMBERED:
                seen.popitem(last=False)

    def _last_seen(self, context: ToolContext, scope: str, key: str) -> str | None:
        with self._lock:
            seen = self._seen.get(context.store)
            return None if seen is None else seen.get((context.run_id, scope, key))


def _told(notes: dict[str, Any]) -> str:
    named = ", ".join(repr(key) for key in list(notes)[:MAX_KEYS]) or "no notes yet"
    return named if len(notes) <= MAX_KEYS else f"{named} and {len(notes) - MAX_KEYS} more"


def _shown(value: JSON) -> str:
    text = canonical(value).decode("utf-8", "replace")
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


memo = MemoTool()
