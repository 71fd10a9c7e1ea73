"""What untrusted content may lead to: nothing that was declared a sink, unless a person agrees.

A tool may be declared a sink (`@tool(sink=True)`): it sends, pays, publishes, deletes. A tool may be declared
untrusted: anybody may have written what it gives. As soon as anything of an untrusted tool has come into a run, the run
is tainted, and with it every agent of its tree, for good: which sentence of a page made a model do something cannot be
known, and what one agent read reaches the others by answers, tasks and files. From then on no sink is called without
approval.

The rule is conservative: it also holds for calls that no page had to do with. It does not follow content out of the
run: what a tainted run writes into a memo, a file or another system and a later run reads there is untrusted only if
the tool that reads it is. A session stays tainted over all of its runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from wherry.messages import JSON
from wherry.tools import Tool

MOST_SOURCES = 20
"""Names that are kept, for people."""


class Taint:
    """Whether untrusted content came into a tree of runs, and by what."""

    __slots__ = ("_sources",)

    def __init__(self, sources: Sequence[str] = ()) -> None:
        self._sources: dict[str, None] = dict.fromkeys(sources)

    @property
    def entered(self) -> bool:
        return bool(self._sources)

    @property
    def sources(self) -> tuple[str, ...]:
        """The tools that it came by, the first one first."""
        return tuple(self._sources)

    def enter(self, source: str) -> None:
        """Take note that a tool's untrusted content came in."""
        if len(self._sources) < MOST_SOURCES:
            self._sources[source] = None

    def of_result(self, name: str, tool: Tool, *, agent: bool = False) -> bool:
        """Whether what a tool gave is untrusted; if the tool itself is, that is taken note of.

        Args:
            name: What the model calls it by.
            tool: What was called.
            agent: It is a managed agent: what it says after it, or anybody in the tree, read from outside is as
                untrusted as that. So is what a tool gives back that runs wrote (`gives_back`).
        """
        if tool.untrusted:
            self.enter(name)
            return True
        return bool(self._sources) and (agent or tool.gives_back)

    def objection(self, name: str, tool: Tool) -> str:
        """Why a call of the tool needs a person's word; an empty text if it needs none."""
        if not (self._sources and tool.sink):
            return ""
        return (
            f"`{name}` is not called without a person's approval once content from outside was read, and this run has "
            f"read such content (from {', '.join(self._sources)})"
        )

    def to_json(self) -> dict[str, JSON]:
        """What a session keeps of it; nothing if there is nothing."""
        return {"untrusted": list(self._sources)} if self._sources else {}

    def restore(self, state: JSON) -> None:
        """Take over what a session kept, or the payload of an event."""
        if not isinstance(state, Mapping):
            return
        found = cast("Mapping[str, Any]", state).get("untrusted")
        if isinstance(found, list):
            for source in cast("list[object]", found):
                self.enter(str(source))
