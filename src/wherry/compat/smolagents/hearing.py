"""The hook by which an agent's run tells its recording what happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: arguments of tools

from wherry.agents.acting import Outcome
from wherry.compat.smolagents.recording import Recording, current
from wherry.journal import Event
from wherry.messages import ToolCall as Call
from wherry.models import ModelReply, ModelRequest
from wherry.sandbox import Execution


class Recorder:
    """The hook of an agent: tells the recording of the run that is under way."""

    def __init__(self, core: object) -> None:
        self._core = core

    def _mine(self) -> Recording | None:
        """A hook hears of the runs below too: those have recordings of their own."""
        recording = current.get()
        return recording if recording is not None and recording.core is self._core else None

    async def before_model(self, request: ModelRequest) -> ModelRequest | None:
        recording = self._mine()
        return None if recording is None else await recording.before_model(request)

    async def after_model(self, request: ModelRequest, reply: ModelReply) -> None:
        if (recording := self._mine()) is not None:
            recording.after_model(request, reply)

    async def before_tool(self, call: Call) -> Mapping[str, Any] | None:
        """Names of what is in the agent's state are taken for what they name."""
        recording = self._mine()
        state = None if recording is None else recording.named()
        if not state:
            return None
        changed = {
            key: state[value] if isinstance(value, str) and value in state else value
            for key, value in call.arguments.items()
        }
        return None if all(changed[key] is value for key, value in call.arguments.items()) else changed

    async def after_tool(self, call: Call, outcome: Outcome) -> None:
        if (recording := self._mine()) is not None:
            recording.after_tool(call, outcome)

    async def before_code(self, code: str) -> str | None:
        recording = self._mine()
        return None if recording is None else recording.before_code(code)

    async def after_code(self, code: str, execution: Execution) -> None:
        if (recording := self._mine()) is not None:
            recording.after_code(code, execution)

    def on_event(self, event: Event) -> None:
        if (recording := self._mine()) is not None:
            recording.on_event(event)
