"""What an agent remembers of its runs, step by step: a view of what the journal has, made as it happens."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast  # Any: answers and arguments are of any kind

from wherry.compat.smolagents.messages import ChatMessage, MessageRole, wire_call
from wherry.compat.smolagents.monitoring import LogLevel, Timing, TokenUsage
from wherry.tools import as_json

if TYPE_CHECKING:
    from wherry.compat.smolagents.errors import AgentError
    from wherry.compat.smolagents.monitoring import AgentLogger

AGAIN = (
    "\nNow let's retry: take care not to repeat previous errors! If you have retried several times, try a completely "
    "different approach.\n"
)


@dataclass
class ToolCall:
    """A call that was made."""

    name: str
    arguments: Any
    id: str

    def dict(self) -> dict[str, Any]:
        return wire_call(self.name, as_json(self.arguments), self.id)


@dataclass
class MemoryStep:
    """Base of the steps."""

    def dict(self) -> dict[str, Any]:
        return {key: as_json(value) for key, value in vars(self).items() if not key.startswith("_")}

    def to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        """What a model would be told of the step."""
        return []


class Lazily:
    """Messages that are only made when somebody looks at them: copying all of them at every step grows with the run."""

    def __init__(self, make: Callable[[], list[ChatMessage]]) -> None:
        self._make = make

    @cached_property
    def messages(self) -> list[ChatMessage]:
        return self._make()

    def __reduce__(self) -> tuple[Callable[[list[ChatMessage]], Lazily], tuple[list[ChatMessage]]]:
        return _made, (self.messages,)


def _made(messages: list[ChatMessage]) -> Lazily:
    """What a copy of a step has."""
    return Lazily(lambda: messages)


class _HasInput:
    """`model_input_messages`, made when it is first looked at."""

    def __get__(self, step: object, owner: type | None = None) -> list[ChatMessage] | None:
        if step is None:
            return None  # the default of the field
        given = step.__dict__.get("_model_input")
        return given.messages if isinstance(given, Lazily) else given

    def __set__(self, step: object, value: object) -> None:
        step.__dict__["_model_input"] = value


@dataclass
class ActionStep(MemoryStep):
    """A request to the model and what came of it."""

    step_number: int
    timing: Timing
    model_input_messages: Any = _HasInput()  # Any: list[ChatMessage] | None, or `Lazily` when it is set
    tool_calls: list[ToolCall] | None = None
    error: AgentError | None = None
    model_output_message: ChatMessage | None = None
    model_output: str | list[dict[str, Any]] | None = None
    code_action: str | None = None
    observations: str | None = None
    observations_images: list[Any] | None = None
    action_output: Any = None
    token_usage: TokenUsage | None = None
    is_final_answer: bool = False

    def dict(self) -> dict[str, Any]:
        asked = cast("list[ChatMessage] | None", self.model_input_messages)
        said = self.model_output_message
        return {
            "step_number": self.step_number,
            "timing": self.timing.dict(),
            "model_input_messages": [_plain(message) for message in asked] if asked else None,
            "tool_calls": [call.dict() for call in self.tool_calls or ()],
            "error": None if self.error is None else self.error.dict(),
            "model_output_message": None if said is None else _plain(said),
            "model_output": self.model_output,
            "code_action": self.code_action,
            "observations": self.observations,
            "observations_images": [image.tobytes() for image in self.observations_images]
            if self.observations_images
            else None,
            "action_output": as_json(self.action_output),
            "token_usage": None if self.token_usage is None else self.token_usage.dict(),
            "is_final_answer": self.is_final_answer,
        }

    to_dict = dict

    def to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        out: list[ChatMessage] = []
        if self.model_output is not None and not summary_mode:
            out.append(_text(MessageRole.ASSISTANT, str(self.model_output).strip()))
        if self.tool_calls is not None:
            calls = [call.dict() for call in self.tool_calls]
            out.append(_text(MessageRole.TOOL_CALL, f"Calling tools:\n{calls}"))
        if self.observations_images:
            parts = [{"type": "image", "image": image} for image in self.observations_images]
            out.append(ChatMessage(MessageRole.USER, parts))
        if self.observations is not None:
            out.append(_text(MessageRole.TOOL_RESPONSE, f"Observation:\n{self.observations}"))
        if self.error is not None:
            which = f"Call id: {self.tool_calls[0].id}\n" if self.tool_calls else ""
            out.append(_text(MessageRole.TOOL_RESPONSE, f"{which}Error:\n{self.error}{AGAIN}"))
        return out


@dataclass
class PlanningStep(MemoryStep):
    """A plan."""

    model_input_messages: Any  # Any: list[ChatMessage], or `Lazily` when it is made
    model_output_message: ChatMessage
    plan: str
    timing: Timing
    token_usage: TokenUsage | None = None

    def __post_init__(self) -> None:
        self._input = self.model_input_messages
        if isinstance(self._input, Lazily):
            del self.model_input_messages

    def __getattr__(self, name: str) -> Any:
        given = self.__dict__.get("_input")
        if name == "model_input_messages" and isinstance(given, Lazily):
            return given.messages
        raise AttributeError(name)

    def dict(self) -> dict[str, Any]:
        return {
            "model_input_messages": [_plain(message) for message in self.model_input_messages],
            "model_output_message": _plain(self.model_output_message),
            "plan": self.plan,
            "timing": self.timing.dict(),
            "token_usage": None if self.token_usage is None else self.token_usage.dict(),
        }

    to_dict = dict

    def to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        if summary_mode:
            return []
        return [
            _text(MessageRole.ASSISTANT, self.plan.strip()),
            _text(MessageRole.USER, "Now proceed and carry out this plan."),
        ]


@dataclass
class TaskStep(MemoryStep):
    """What was asked."""

    task: str
    task_images: list[Any] | None = None

    def to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        parts: list[dict[str, Any]] = [{"type": "text", "text": f"New task:\n{self.task}"}]
        parts += [{"type": "image", "image": image} for image in self.task_images or ()]
        return [ChatMessage(MessageRole.USER, parts)]


@dataclass
class SystemPromptStep(MemoryStep):
    """What every request begins with."""

    system_prompt: str

    def to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        return [] if summary_mode else [_text(MessageRole.SYSTEM, self.system_prompt)]


@dataclass
class FinalAnswerStep(MemoryStep):
    """The answer; the last thing that a stream of steps gives."""

    output: Any


class AgentMemory:
    """The steps of an agent's conversation.

    To read, to print, to count, and to edit: what is changed, taken out or put in here is so in the next request too.
    Only what was folded into the summary of wherry's bounded window is said there already.
    """

    def __init__(self, system_prompt: str) -> None:
        self.system_prompt = SystemPromptStep(system_prompt)
        self.steps: list[Any] = []  # Any: TaskStep | ActionStep | PlanningStep, and what a user puts in

    def reset(self) -> None:
        self.steps = []

    def get_succinct_steps(self) -> list[dict[str, Any]]:
        """All steps as dicts, without what the model was sent."""
        return [{key: value for key, value in step.items() if key != "model_input_messages"} for step in self._dicts()]

    def get_full_steps(self) -> list[dict[str, Any]]:
        """All steps as dicts."""
        return self._dicts()

    def return_full_code(self) -> str:
        """The code of all steps, as one script."""
        codes = (step.code_action for step in self.steps if isinstance(step, ActionStep))
        return "\n\n".join(code for code in codes if code is not None)

    def replay(self, logger: AgentLogger, detailed: bool = False) -> None:
        """Print all steps; `detailed` prints what the model was sent too."""
        logger.log_markdown(self.system_prompt.system_prompt, title="System prompt", level=LogLevel.ERROR)
        for step in self.steps:
            if isinstance(step, TaskStep):
                logger.log_task(step.task, "", level=LogLevel.ERROR)
                continue
            planning = isinstance(step, PlanningStep)
            logger.log_rule("Planning step" if planning else f"Step {step.step_number}", level=LogLevel.ERROR)
            if detailed and step.model_input_messages:
                logger.log_messages(step.model_input_messages, level=LogLevel.ERROR)
            said = step.plan if planning else step.model_output
            if said is not None:
                logger.log_markdown(str(said), title="Agent output:", level=LogLevel.ERROR)
            if not planning:
                for call in step.tool_calls or ():
                    logger.log_code(f"Call of {call.name} with arguments:", str(call.arguments), level=LogLevel.ERROR)
                if step.observations:
                    logger.log_markdown(step.observations, title="Observations:", level=LogLevel.ERROR)

    def _dicts(self) -> list[dict[str, Any]]:
        return [step.dict() for step in self.steps]


class CallbackRegistry:
    """Functions that are called with each finished step of a kind."""

    def __init__(self) -> None:
        self._callbacks: dict[type[MemoryStep], list[Callable[..., object]]] = {}

    def register(self, step_cls: type[MemoryStep], callback: Callable[..., object]) -> None:
        self._callbacks.setdefault(step_cls, []).append(callback)

    def callback(self, memory_step: MemoryStep, **kwargs: Any) -> None:
        """Call those of the step's class and of the classes above it; `kwargs` go to those that take more than one."""
        for call in self.of(memory_step):
            if len(inspect.signature(call).parameters) == 1:
                call(memory_step)
            else:
                call(memory_step, **kwargs)

    def of(self, memory_step: MemoryStep) -> Sequence[Callable[..., object]]:
        return [call for kind in type(memory_step).__mro__ for call in self._callbacks.get(kind, ())]


def _text(role: MessageRole, text: str) -> ChatMessage:
    return ChatMessage(role, [{"type": "text", "text": text}])


def _plain(message: ChatMessage) -> Mapping[str, Any]:
    """JSON of a message, with what the server sent."""
    out = message.dict()
    out["role"] = MessageRole(message.role).value
    return cast("Mapping[str, Any]", as_json(out))
