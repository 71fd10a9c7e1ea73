"""`memo`: notes that outlive the run, in the run's store."""

from __future__ import annotations

from typing import Any, Literal  # Any: a note is any JSON value

from wherry.errors import ToolError
from wherry.tools.context import current_context
from wherry.tools.tool import Tool
from wherry.tools.values import as_json

MAX_KEYS = 20
"""Keys that are named when one is not found."""


class MemoTool(Tool):
    """A key-value store with the actions set, get, list and delete. What is set is durable when the call returns.

    Notes of one `scope` are shared by every agent, run and process that uses the same store.
    """

    name = "memo"
    description = "Keep notes that last: set, get, list or delete a value by its key."

    def __init__(self, *, scope: str = "shared") -> None:
        self.scope = scope

    def forward(
        self, action: Literal["set", "get", "list", "delete"], key: str | None = None, value: Any = None
    ) -> Any:  # Any: the note, or what was done
        """Do one of the four.

        Args:
            action: list needs no key
            key: the note's name
            value: what to set
        """
        notes = current_context().store.memo
        if action == "list":
            return notes.list(self.scope)
        if not key:
            raise ToolError(f"memo: {action} needs a key")
        if action == "set":
            if value is None:
                raise ToolError("memo: set needs a value")
            notes.set(self.scope, key, as_json(value))
            return f"noted {key!r}"
        if action == "delete":
            return f"deleted {key!r}" if notes.delete(self.scope, key) else f"there was no {key!r}"
        found = notes.get(self.scope, key)
        if found is None:
            raise ToolError(f"memo has no {key!r}; it has {_told(notes.list(self.scope))}")
        return found


def _told(notes: dict[str, Any]) -> str:
    named = ", ".join(repr(key) for key in list(notes)[:MAX_KEYS]) or "no notes yet"
    return named if len(notes) <= MAX_KEYS else f"{named} and {len(notes) - MAX_KEYS} more"


memo = MemoTool()
