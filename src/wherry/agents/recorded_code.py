"""The snippets of a run as its journal has them, for `wherry.sandbox.rebuild`.

A value from which a secret was taken out before it was written down comes back without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wherry.agents.handing import encoded
from wherry.agents.result import RunStatus
from wherry.agents.run import Run
from wherry.errors import RebuildError, RunNotFound, StoreError, ToolArgumentError
from wherry.journal import Event, EventType, read_events
from wherry.messages import canonical, parse
from wherry.redaction import redact_json
from wherry.sandbox import Conditions, RecordedCall, RecordedSnippet
from wherry.sandbox.values import Encoded
from wherry.store import Store
from wherry.tools import as_json


@dataclass(frozen=True, slots=True)
class RecordedCode:
    """What a run's code did so far."""

    finished: list[RecordedSnippet]
    unfinished: RecordedSnippet | None = None
    """Was under way when the records end; with the calls that have an answer."""
    unanswered: Mapping[str, Any] | None = None  # Any: JSON
    """Payload of the `tool.called` or `agent.called` that it was waiting for."""


@dataclass(slots=True)
class _Reader:
    store: Store
    finished: list[RecordedSnippet] = field(default_factory=list[RecordedSnippet])
    code: Mapping[str, Any] | None = None
    called: Mapping[str, Any] | None = None
    calls: list[RecordedCall] = field(default_factory=list[RecordedCall])

    def take(self, event: Event) -> None:
        payload = event.payload
        match event.type:
            case EventType.CODE_STARTED:
                self.code, self.called, self.calls = payload, None, []
            case EventType.TOOL_CALLED | EventType.AGENT_CALLED if self.code is not None:
                self.called = payload
            case EventType.TOOL_RETURNED if "ended" in payload:
                pass  # with the run; it returns once more
            case EventType.TOOL_RETURNED if self.code is not None and self.called is not None:
                self.calls.append(replace(_answer(self.store, payload), arguments=self.called["arguments"]))
                self.called = None
            case EventType.AGENT_RETURNED if "raised" in payload or payload["status"] == RunStatus.WAITING:
                pass
            case EventType.AGENT_RETURNED if self.code is not None:
                self.calls.append(RecordedCall(name=payload["name"], value=_of_agent(self.store, payload)))
                self.called = None
            case EventType.CODE_FINISHED if self.code is not None and not payload.get("interrupted"):
                self.finished.append(replace(self.snippet(payload.get("clock", {})), kind=payload["kind"]))
                self.code = None
            case _:
                pass

    def snippet(self, clock: Mapping[str, list[int]] | None) -> RecordedSnippet:
        code = self.code or {}
        conditions = Conditions(code["seed"], clock)
        return RecordedSnippet(code=code["code"], conditions=conditions, calls=tuple(self.calls))


def recorded_code(store: Store, run_id: str) -> RecordedCode:
    """What a run's snippets were, did and got.

    Raises:
        RebuildError: the records of the run, or a value that they refer to, are gone, or are of an older version.
    """
    reader = _Reader(store)
    try:
        for event in read_events(store, run_id):
            reader.take(event)
    except (StoreError, RunNotFound, KeyError) as error:
        raise RebuildError(f"the records of the run cannot be read: {error}") from error
    if reader.code is None:
        return RecordedCode(reader.finished)
    return RecordedCode(reader.finished, reader.snippet(None), reader.called)


def call_arguments(run: Run, name: str, args: list[Any], kwargs: dict[str, Any]) -> object:
    """A call's arguments as `tool.called` has them."""
    return parse(redact_json(canonical(as_json(bound(run, name, args, kwargs)[0]))))


def bound(run: Run, name: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """A call's arguments by name, and why it cannot be made, if so: then as they were given."""
    tool = run.toolbox.tools.get(name)
    given = {**{str(number): value for number, value in enumerate(args, 1)}, **kwargs}
    if tool is None:
        return given, f"there is no tool {name!r}; there are: {', '.join(run.toolbox.tools) or 'none'}"
    try:
        return tool.bind(args, kwargs), None
    except ToolArgumentError as error:
        return given, error.message


def _answer(store: Store, payload: Mapping[str, Any]) -> RecordedCall:
    if not payload["ok"]:
        return RecordedCall(name=payload["name"], error=payload["error"])
    tree = payload["value"] if "value" in payload else parse(store.artifacts.read(payload["ref"]))
    return RecordedCall(name=payload["name"], value=Encoded(tree))


def _of_agent(store: Store, payload: Mapping[str, Any]) -> Encoded:
    """What a managed agent's manager was given, from that agent's own records."""
    *_, last = read_events(store, payload["run_id"])
    output, ref = last.payload["output"], last.payload["ref"]
    if ref is not None:
        data = store.artifacts.read(ref)
        is_text = store.artifacts.info(ref).media_type == "text/plain"
        output = data.decode("utf-8", "surrogatepass") if is_text else parse(data)
    status, reason = payload["status"], last.payload.get("reason", "")
    if status == RunStatus.COMPLETED:
        return encoded(output)
    return encoded(f"[not finished: {status}: {reason}]" if output is None else f"[not finished: {status}] {output}")
