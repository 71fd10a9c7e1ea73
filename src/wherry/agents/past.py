"""What a run's journal says of a run that is to go on: what it was asked, what was done, what was only begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from wherry.agents.result import ResultFile, RunStatus
from wherry.context.snapshots import Asked
from wherry.errors import StoreError
from wherry.journal import Event, EventType, read_events
from wherry.messages import Message
from wherry.models import ModelReply
from wherry.store import Store

Payload: TypeAlias = Mapping[str, Any]  # Any: JSON, its keys depend on the event's type


_TASK_CHARS = 500
"""By which the calls of an agent are told apart: the head of the task is on record."""


@dataclass(slots=True)
class PastCall:
    """A tool's or a managed agent's call of the step that was not finished."""

    name: str
    arguments: Any  # Any: JSON
    run_id: str | None = None
    """The run of the managed agent that was called."""
    returned: Payload | None = None
    """Payload of its `tool.returned`."""
    times: int = 1
    """How often it was begun."""
    waiting: bool = False
    """Whether it was never made: it waited for a person's word, or a limit stood before it."""
    in_doubt: bool = False
    """Whether a person was asked what became of it: then no other question says that it was never made."""

    def same(self, name: str, arguments: Any) -> bool:  # Any: JSON
        """Whether it is a call of that name with those arguments, as they are written down."""
        if self.name != name:
            return False
        if self.run_id is None:
            return self.arguments == arguments
        return str(self.arguments)[:_TASK_CHARS] == str(arguments.get("task", ""))[:_TASK_CHARS]

    @property
    def state(self) -> Literal["new", "done", "unknown", "agent"]:
        """What is to be done about it: made for the first time, answered from the records, or found out."""
        if self.run_id is not None:
            return "agent"
        if self.returned is not None:
            return "done"
        return "new" if self.waiting else "unknown"


@dataclass(slots=True)
class PastCode:
    """The snippet of the step that was not finished."""

    code: str
    seed: str
    finished: Payload | None = None
    """Payload of its `code.finished`; None where it was interrupted."""
    clock: Mapping[str, Sequence[int]] | None = None
    """What it had read of each clock when it was interrupted; None where that is not known."""
    exact: bool = False
    """Whether all calls on record were made with what `clock` says: run again, they have the same arguments."""


@dataclass(slots=True)
class Past:
    """A run as its journal has it."""

    run_id: str
    events: list[Event] = field(default_factory=list[Event])
    started: Payload = field(default_factory=dict[str, Any])
    resumed: Payload = field(default_factory=dict[str, Any])
    """Payload of the last `run.resumed`: by what the run went on then, it goes on now."""
    step: int = 0
    """The last one whose reply is known; with none of it open it is done."""
    requested: int = 0
    """The last step whose request is on record: what comes before that, as a plan, is in the window."""
    reply: Payload | None = None
    """Payload of the `model.replied` whose acts may not have come to their end."""
    snapshot: Payload | None = None
    """What the window held; None: it never made a request."""
    told: list[str] = field(default_factory=list[str])
    """What was appended to it since."""
    asked: list[Asked] = field(default_factory=list[Asked])
    """The requests that were made of it, from that of the snapshot on."""
    calls: dict[str, PastCall] = field(default_factory=dict[str, PastCall])
    """Of the open step, by call."""
    code: PastCode | None = None
    """Of the open step."""
    claimed: set[str] = field(default_factory=set[str])
    """Names of calls that the open step's snippet, run again, has made already."""
    ran_code: bool = False
    """Whether any snippet was begun."""
    finished: Payload | None = None
    """Payload of `run.finished`; None where the process died."""
    files: dict[str, ResultFile] = field(default_factory=dict[str, ResultFile])
    warnings: list[str] = field(default_factory=list[str])
    untrusted: list[str] = field(default_factory=list[str])
    """Tools by which content from outside came in."""
    seconds: float = 0.0
    """That it was under way."""

    @property
    def status(self) -> RunStatus | None:
        """How it ended; None where the process died."""
        return None if self.finished is None else RunStatus(self.finished["status"])

    @property
    def asked_anyone(self) -> bool:
        """Whether it made any request, or asked an agent: if not, it has not begun."""
        return any(event.type in (EventType.MODEL_REQUESTED, EventType.AGENT_CALLED) for event in self.events)

    @property
    def session_revision(self) -> int:
        """How often its session had been saved when it began with what that held, or when it saved it itself."""
        said = (self.finished or {}, self.resumed, self.started)
        return next((payload["session_revision"] for payload in said if "session_revision" in payload), 0)

    def claim(self, number: int, name: str, arguments: Any) -> str:  # Any: JSON, as it is written down
        """The name of a call that the open step's snippet makes as its `number`th when it is run again.

        That of the same call before. Threads may make theirs in another order: none gets what another one gave. What
        is like none before has the name of that place, where the arguments may differ by the time of day; else a new
        one.
        """
        own = f"{self.step}.{number}"
        same = [call for call, known in self.calls.items() if call not in self.claimed and known.same(name, arguments)]
        known = self.calls.get(own)
        free = own not in self.claimed and (
            known is None or (known.name == name and not (self.code and self.code.exact))
        )
        call = own if own in same or (free and not same) else same[0] if same else self._new_name()
        self.claimed.add(call)
        return call

    def _new_name(self) -> str:
        taken = {int(call.rpartition(".")[2]) for call in self.calls.keys() | self.claimed}
        return f"{self.step}.{max(taken, default=0) + 1}"

    def open_reply(self, store: Store) -> ModelReply | None:
        """The reply whose acts may not have come to their end, as the model gave it.

        Raises:
            StoreError: It is not in the store.
        """
        if self.reply is None:
            return None
        message = Message.decode(store.message(self.reply.get("said") or self.reply["message"]))
        return ModelReply(message.content, tool_calls=message.tool_calls, finish_reason=self.reply.get("finish_reason"))


def read_past(store: Store, run_id: str) -> Past:
    """All that a run's journal says of it: O(its records).

    Raises:
        RunNotFound: The store has no such run.
        StoreError: Its records cannot be read, or are of a version that could not be gone on with.
    """
    reader = _Reader(Past(run_id))
    for event in read_events(store, run_id):
        reader.take(event)
    past = reader.done()
    if "order" not in past.started:
        raise StoreError(
            f"run {run_id!r} cannot be gone on with: its journal does not say all that it was asked",
            hint="it was written by an earlier version, or its first record is missing: start it anew",
            run_id=run_id,
        )
    return past


class _Reader:
    """Reads the events of a run in their order."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._snapshot: Payload | None = None
        self._told: list[str] = []
        """The window as of the last request of any kind."""
        self._asked: list[Asked] = []
        """The requests since the snapshot, that one included."""
        self._at: tuple[Payload | None, list[str], int, list[Asked], int] = None, [], 0, [], 0
        """The window as of the last request that made a step: snapshot, so many of what was told since and of the
        requests."""
        self._aside = False
        """Whether the last request was for a plan or a last word: a run that is interrupted then asks again."""
        self._began: float | None = None
        self._last = 0.0
        self._take: Mapping[EventType, Callable[[Payload], None]] = {
            EventType.MODEL_REQUESTED: self._requested,
            EventType.MODEL_REPLIED: self._replied,
            EventType.TOOL_CALLED: self._called,
            EventType.AGENT_CALLED: self._called,
            EventType.TOOL_RETURNED: self._returned,
            EventType.APPROVAL_REQUESTED: self._waits,
            EventType.APPROVAL_DECIDED: self._decided,
            EventType.CODE_STARTED: self._code_started,
            EventType.CODE_FINISHED: self._code_finished,
            EventType.WARNING: lambda payload: self._past.warnings.append(payload["message"]),
        }

    def take(self, event: Event) -> None:
        past = self._past
        past.events.append(event)
        payload = event.payload
        if "untrusted" in payload:
            past.untrusted += payload["untrusted"]
        match event.type:
            case EventType.RUN_STARTED:
                past.started = payload
                self._began = event.time
            case EventType.RUN_RESUMED:
                self._pause()
                past.resumed, past.finished, self._began = payload, None, event.time
                # What was asked for aside is asked for anew.
                self._snapshot, self._told, self._aside = self._at[0], self._told_then(), False
                self._asked = self._asked_then()
            case EventType.RUN_FINISHED:
                past.finished = payload
                self._last = event.time
                self._pause()
            case type_ if (take := self._take.get(type_)) is not None:
                take(payload)
            case _:
                pass
        self._last = event.time

    def done(self) -> Past:
        """All that was read."""
        self._pause()
        past = self._past
        past.snapshot, past.told, past.asked = self._at[0], self._told_then(), self._asked_then()
        if past.reply is not None:
            past.told.append(past.reply["message"])
        return past

    def _pause(self) -> None:
        if self._began is not None:
            self._past.seconds += max(0.0, self._last - self._began)
            self._began = None

    # -- the window

    def _told_then(self) -> list[str]:
        return self._at[1][: self._at[2]]

    def _asked_then(self) -> list[Asked]:
        return self._at[3][: self._at[4]]

    def _requested(self, payload: Payload) -> None:
        past = self._past
        snapshot: Payload | None = payload.get("snapshot")
        if snapshot is None:
            self._told += payload.get("told", payload["add"])
        else:
            self._snapshot, self._told, self._asked = snapshot, [], []
        self._aside = "aside" in payload
        self._asked.append(Asked(len(self._told), tools=not self._aside))
        if self._aside:
            return
        self._at = self._snapshot, self._told, len(self._told), self._asked, len(self._asked)
        past.step, past.requested, past.reply, past.code = payload["step"] - 1, payload["step"], None, None
        past.calls = {}

    def _replied(self, payload: Payload) -> None:
        if self._asked and not payload.get("estimated") and not payload.get("cached"):
            self._asked[-1] = replace(self._asked[-1], reported=payload["usage"]["input_tokens"])
        if not self._aside:
            self._past.step, self._past.reply = payload["step"], payload

    # -- what was done

    def _called(self, payload: Payload) -> None:
        if self._past.code is not None:
            self._past.code.exact = False
        known = self._past.calls.get(payload["call"])
        if known is not None:
            known.times += 1
            known.run_id = payload.get("run_id", known.run_id)
            return
        asked = payload.get("arguments", payload.get("task"))
        self._past.calls[payload["call"]] = PastCall(payload["name"], asked, run_id=payload.get("run_id"))

    def _returned(self, payload: Payload) -> None:
        call = self._past.calls.get(payload["call"])
        if call is None:
            return
        ended = payload.get("ended")  # by what no model can mend
        call.waiting = ended == "limit"
        # What a reader gave is made anew: the window can make it smaller without making it false.
        call.returned = None if ended or payload.get("reader") else payload

    def _waits(self, payload: Payload) -> None:
        call = self._past.calls.get(payload.get("call", ""))
        if call is None:
            return
        if payload.get("kind") == "unknown":
            call.in_doubt = True
        elif not call.in_doubt:
            call.waiting = True

    def _decided(self, payload: Payload) -> None:
        call = self._past.calls.get(payload.get("call", ""))
        if call is not None and not call.in_doubt:
            call.waiting = not payload.get("approved")  # else it may have been made

    def _code_started(self, payload: Payload) -> None:
        past = self._past
        past.code, past.ran_code = PastCode(payload["code"], payload["seed"]), True

    def _code_finished(self, payload: Payload) -> None:
        past = self._past
        for file in payload.get("files", ()):
            past.files[file["name"]] = ResultFile(**file)
        if past.code is None:
            return
        if payload.get("interrupted"):
            past.code.clock = payload.get("clock", past.code.clock)
            past.code.exact = "clock" in payload
        else:
            past.code.finished = payload
