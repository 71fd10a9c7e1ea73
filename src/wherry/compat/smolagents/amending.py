"""What a program changes in an agent's memory, and what the model is told of it.

`agent.memory` is a view of what happened, but programs edit it: a callback takes old screenshots out, shortens an
observation, adds a picture, corrects a plan; steps are dropped, replaced or put in, during a run or between two.
The window is changed likewise, and stays bounded: what was folded into the summary is said there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast  # Any: steps and pictures of any kind

from wherry.compat.smolagents.agent_types import png_of
from wherry.compat.smolagents.memory import ActionStep, PlanningStep, TaskStep
from wherry.compat.smolagents.messages import from_chat
from wherry.compat.smolagents.text import truncate_content
from wherry.context.groups import Group
from wherry.context.untrusted import Untrusted
from wherry.messages import JSON, Image, Message, ToolCall

if TYPE_CHECKING:
    from wherry.context import ContextWindow

TAKEN_OUT = "[taken out]"
WITH_THE_FIRST = "[told with the first result]"
PICTURES = "Its pictures:"
PROCEED = "Now proceed and carry out this plan."

Said = tuple[Any, ...]
"""What a step says to the model, to be compared."""


def said_by(step: object) -> Said:
    """What a model is told of a step."""
    if isinstance(step, ActionStep):
        error = None if step.error is None else str(step.error)
        return step.model_output, step.observations, error, tuple(id(image) for image in step.observations_images or ())
    if isinstance(step, PlanningStep):
        return (step.plan,)
    if isinstance(step, TaskStep):
        return (step.task,)
    return ()


class Left:
    """What a session has of a memory: nothing before the first run, and after one that was broken off."""

    def __init__(self, steps: Sequence[object] = ()) -> None:
        self._steps = list(steps)
        self.said = [said_by(step) for step in steps]

    def is_of(self, steps: Sequence[object]) -> bool:
        """Whether the memory is still the same."""
        return (
            len(steps) == len(self._steps)
            and all(one is other for one, other in zip(steps, self._steps, strict=True))
            and self.said == [said_by(step) for step in steps]
        )


class Told:
    """A step, where the window has it, and as what."""

    __slots__ = ("said", "source", "step", "turn")

    def __init__(self, step: object, turn: Group) -> None:
        self.step, self.turn = step, turn
        self.said = said_by(step)
        self.source = ""
        """The tool from outside that an observation came from; empty where there is none."""


class Edits:
    """Those of one run."""

    def __init__(self) -> None:
        self.window: ContextWindow | None = None
        """The run's; None before it is open."""
        self._told: list[Told] = []
        self._known: dict[int, object] = {}
        """Steps that the model was told of or that the run began with, by identity."""
        self._length = 0
        """Of the memory when it was last looked at."""

    def begin(self, steps: Sequence[object]) -> None:
        """The steps that the model knows from before, with the task."""
        self._known = {id(step): step for step in steps}
        self._length = len(steps)

    def note(self, step: object, source: str = "") -> None:
        """A step, before anybody could change it. Its turn is the newest."""
        turn = None if self.window is None else self.window.newest_turn
        if turn is not None:
            told = Told(step, turn)
            told.source = source
            self._told.append(told)
            self._known[id(step)] = step

    def noted(self, step: object) -> None:
        """A step was put into the memory."""
        self._known[id(step)] = step
        self._length += 1

    def left(self, steps: Sequence[object]) -> Left:
        """What the run's session has of the memory: the steps as the model was told of them."""
        left = Left(steps)
        said = {id(told.step): told.said for told in self._told}
        left.said = [said.get(id(step), now) for step, now in zip(steps, left.said, strict=True)]
        return left

    async def apply(self, steps: Sequence[object]) -> bool:
        """Bring the window to what the memory says now; whether anything had changed."""
        window = self.window
        if window is None:
            return False
        held = {id(turn) for turn in window.turns}
        self._told = [told for told in self._told if id(told.turn) in held]
        changed, added = False, list[object]()
        if not self._as_before(steps):
            changed, added = self._sorted_out(window, steps)
        for told in self._told:
            now = said_by(told.step)
            if now != told.said:
                window.amend(told.turn, self._amended(told, now))
                told.said, changed = now, True
        for step in added:
            for message in messages_of(step):
                await window.append(message)
            self._known[id(step)] = step
        self._length = len(steps)
        return changed or bool(added)

    def _as_before(self, steps: Sequence[object]) -> bool:
        """Whether the memory still ends with the steps that the window has."""
        if len(steps) != self._length:
            return False
        tail = steps[len(steps) - len(self._told) :] if len(self._told) <= len(steps) else ()
        return len(tail) == len(self._told) and all(
            one is told.step for one, told in zip(tail, self._told, strict=True)
        )

    def _sorted_out(self, window: ContextWindow, steps: Sequence[object]) -> tuple[bool, list[object]]:
        """Take out what is gone and put the replaced in its place; whether that was anything, and what is new."""
        present = {id(step) for step in steps}
        new = [step for step in steps if id(step) not in self._known and not getattr(step, "_run", "")]
        gone = [told for told in self._told if id(told.step) not in present]
        for told in gone:
            number = getattr(told.step, "step_number", None)
            other = next(
                (one for one in new if number is not None and getattr(one, "step_number", None) == number), None
            )
            if other is None:
                window.amend(told.turn, [entry.message for entry in _beyond(told.turn)])
                self._told.remove(told)
            else:
                told.step = other
                self._known[id(other)] = other
                new = [one for one in new if one is not other]
        return bool(gone), new

    def _amended(self, told: Told, now: Said) -> list[Message]:
        """A turn's messages, as its step says them now."""
        head, *rest = [entry.message for entry in told.turn.entries]
        beyond = [entry.message for entry in _beyond(told.turn)]
        body = rest[: len(rest) - len(beyond)]
        if len(now) == 1:  # a plan
            return [_with(head, str(now[0])), *rest]
        output, observations, error, images = now
        before = told.said if len(told.said) == len(now) else (None, None, None, ())
        if output != before[0]:
            head = _with(head, "" if output is None else str(output))
        if (observations, error) != before[1:3]:
            text = _seen(observations, error)
            body = _results(body, Untrusted(text, source=told.source) if told.source else text)
        if images != before[3]:
            body = self._pictured(body, cast("ActionStep", told.step).observations_images or ())
        return [head, *body, *beyond]

    def _pictured(self, body: Sequence[Message], images: Sequence[Any]) -> list[Message]:
        shown = [_image(image) for image in images]
        *before, last = body or [Message("user", TAKEN_OUT)]
        if last.role != "user":
            return [*before, last, *([Message("user", PICTURES, images=shown)] if shown else [])]
        if last.content.startswith(PICTURES):
            return [*before, Message("user", PICTURES, images=shown)] if shown else before
        changed = Message("user", last.content, name=last.name, images=shown)
        return [*before, changed]


def messages_of(step: object) -> list[Message]:
    """A step that the model has not been told of, as messages.

    Raises:
        TypeError: it is none.
    """
    if isinstance(step, TaskStep):
        return [Message("user", step.task, images=[_image(image) for image in step.task_images or ()])]
    if isinstance(step, PlanningStep):
        return [Message("assistant", step.plan), Message("user", PROCEED)]
    if isinstance(step, ActionStep):
        return _action(step)
    told = getattr(step, "to_messages", None)
    if told is None:
        raise TypeError(f"agent.memory.steps holds {step!r}, which is no step: it has no `to_messages`")
    return from_chat(told())


def _action(step: ActionStep) -> list[Message]:
    images = [_image(image) for image in step.observations_images or ()]
    text = truncate_content(_seen(step.observations, None if step.error is None else str(step.error)))
    calls = [
        ToolCall(call.id, call.name, cast("dict[str, Any]", call.arguments))
        for call in step.tool_calls or ()
        if step.code_action is None
        and call.name != "python_interpreter"
        and isinstance(cast("object", call.arguments), dict)
    ]
    said = "" if step.model_output is None else str(step.model_output)
    head = Message("assistant", said or ("" if calls else step.code_action or TAKEN_OUT), tool_calls=calls)
    results = [Message("tool", WITH_THE_FIRST, tool_call_id=call.id, name=call.name) for call in calls]
    body = _results(results or [Message("user", "")], text)
    if images:
        body = [*body, Message("user", PICTURES, images=images)]
    if step.is_final_answer:
        body = [*body, Message("assistant", truncate_content(str(step.action_output)))]
    return [head, *body]


def state_of(steps: Sequence[object]) -> JSON:
    """A conversation that has these steps behind it, as a window goes on from it."""
    messages = [message for step in steps for message in messages_of(step)]
    return {
        "version": 1,
        "summary": {"left_out": 0, "lines": []},
        "messages": [cast("JSON", message.to_json()) for message in messages],
    }


def _beyond(turn: Group) -> Sequence[Any]:
    """What a turn holds behind a step's own: what was asked of the model next."""
    entries = turn.entries
    end = 1
    while end < len(entries) and entries[end].message.role == "tool":
        end += 1
    if end == 1:
        end += 1
    if end < len(entries) and entries[end].message.content.startswith(PICTURES):
        end += 1
    return entries[end:]


def _results(body: Sequence[Message], text: str) -> list[Message]:
    """The observation of a step in the place of what was observed."""
    calls = [message for message in body if message.role == "tool"]
    pictures = [message for message in body if message.role == "user" and message.images]
    if not calls:
        return [Message("user", text, images=pictures[0].images if pictures else ())]
    first, *others = calls
    return [_with(first, text), *(_with(other, WITH_THE_FIRST) for other in others), *pictures]


def _with(message: Message, content: str) -> Message:
    if not content and not message.tool_calls:
        content = TAKEN_OUT
    return Message(
        message.role,
        content,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
        images=message.images,
    )


def _image(image: object) -> Image:
    return Image(data=png_of(image))


def _seen(observations: str | None, error: str | None) -> str:
    parts = [] if observations is None else [f"Observation:\n{observations}"]
    if error is not None:
        parts.append(f"Error:\n{error}")
    return "\n".join(parts) or TAKEN_OUT
