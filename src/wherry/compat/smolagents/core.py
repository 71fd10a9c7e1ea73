"""The agents of wherry below the faces: what they share with them, and what they tell them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast  # Any: answers are of any kind

from wherry.agents import CodeAgent, RunStatus, ToolCallingAgent
from wherry.agents.answers import AnswerRules
from wherry.agents.loop import Turn
from wherry.agents.run import Order, Run
from wherry.compat.smolagents.adapter import asking, core_model
from wherry.compat.smolagents.default_tools import FinalAnswerTool
from wherry.compat.smolagents.errors import AgentError
from wherry.compat.smolagents.hearing import Recorder
from wherry.compat.smolagents.recording import current
from wherry.compat.smolagents.text import fenced, parse_json_blob
from wherry.compat.smolagents.tools import Tool
from wherry.errors import OutputError
from wherry.messages import Message, ToolSchema
from wherry.models import Model, ModelProfile, ModelReply
from wherry.tools import tool as wherry_tool
from wherry.tools.signature import MAX_DESCRIPTION
from wherry.tools.threads import run_in_thread

if TYPE_CHECKING:
    from wherry.compat.smolagents.multi_step import MultiStepAgent

MEND = "\nCall a tool, or call final_answer with the answer."


class Rules(AnswerRules):
    """A face's: its `final_answer` tool, then its checks, which see its memory."""

    def __init__(self, face: MultiStepAgent) -> None:
        super().__init__(None, ())
        self._face = face

    async def accept(self, answer: Any) -> Any:
        face, recording = self._face, current.get()
        if recording is None or recording.exhausted:
            text = "" if answer is None else str(answer)
            if recording is not None:
                await recording.gave_up(text)
            return text
        try:
            answer = await self._final(answer)
            for check in face.final_answer_checks:
                await self._face_check(check, answer)
        except AgentError as refused:
            await recording.answered(answer, refused)
            raise OutputError(refused.message) from refused
        await recording.answered(answer, None)
        return answer

    async def _final(self, answer: Any) -> Any:
        """The answer as the `final_answer` tool makes it, which may be a user's own."""
        face = self._face
        recording = current.get()
        if recording is not None and isinstance(answer, str):
            answer = recording.named().get(answer, answer)
        final = face.tools.get("final_answer")
        if final is None or type(final) is FinalAnswerTool:
            return answer
        call = partial(final, answer)
        if isinstance(answer, dict) and own_inputs(final):
            call = partial(final, **cast("dict[str, Any]", answer))
        try:
            return await run_in_thread(call, timeout=None)
        except Exception as error:  # a user's own tool raises what it likes; the model is told
            raise AgentError(f"Error executing tool 'final_answer': {type(error).__name__}: {error}") from error

    async def _face_check(self, check: Callable[..., object], answer: Any) -> None:
        face = self._face
        name = getattr(check, "__name__", type(check).__name__)
        taken = inspect.signature(check).parameters
        more = {"agent": face} if "agent" in taken or any(p.kind is p.VAR_KEYWORD for p in taken.values()) else {}
        try:
            accepted = await run_in_thread(partial(check, answer, face.memory, **more), timeout=None)
        except Exception as error:  # a check refuses by raising whatever it likes
            raise AgentError(f"Check {name} failed with error: {error}") from error
        if not accepted:
            raise AgentError(f"Check {name} failed with error: it gave {accepted!r}")


def own_inputs(final: object) -> bool:
    """Whether a `final_answer` tool takes something else than an answer."""
    return isinstance(final, Tool) and set(final.inputs or ()) != {"answer"}


class Core:
    """What the two kinds below share. Mixed in before one of wherry's agents."""

    face: MultiStepAgent
    takes_additional_args: ClassVar[bool] = True
    _model_of: tuple[object, Model] | None = None

    def resolved_model(self) -> Model:
        """The face's model, whatever it is by now."""
        if self._model_of is None or self._model_of[0] is not self.face.model:
            self._model_of = (self.face.model, core_model(self.face.model))
        return self._model_of[1]

    def sync(self) -> None:
        """Take over what was put into the face's tools and agents, or taken out."""
        agent, face = cast("CodeAgent", self), self.face
        agent.name, agent.description, agent.instructions = face.name, face.description, face.instructions
        agent.max_steps, agent.planning_interval = face.max_steps, face.planning_interval
        told = {**face.functions, **face.tools}
        tools: dict[str, Any] = {name: one for name, one in told.items() if name != "final_answer"}
        agents: dict[str, Any] = {}
        for name, managed in face.managed_agents.items():
            below = getattr(managed, "core", None)
            if below is not None and not overrides_run(managed):
                below.sync()
                agents[name] = below
            else:
                tools[name] = face.called_as_tool(name, managed)
        if tools != agent.tools:
            agent.tools.clear()
            agent.tools.update(tools)
        if agents != agent.managed_agents:
            agent.managed_agents.clear()
            agent.managed_agents.update(agents)

    def shown(self, rules: str) -> str:
        """The system prompt: the face's, with wherry's own rules where it wants them."""
        return self.face.system_prompt_with(rules)

    def prompt_now(self) -> str:
        """The system prompt as the next run would have it."""
        agent = cast("CodeAgent", self)
        self.sync()
        instructions = agent.instructions if isinstance(agent.instructions, str) else ""
        shown = [one.schema for one in agent.tools.values()]
        for name, managed in agent.managed_agents.items():
            task = {"type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"]}
            shown.append(ToolSchema(name, managed.description or "", task))
        return agent.prompt(shown, ModelProfile("none"), instructions)

    def order(self, task: str, options: Mapping[str, Any]) -> Order:
        """A checked order."""
        return cast("CodeAgent", self)._order(task, cast("Any", options))  # pyright: ignore[reportPrivateUsage] - one class

    async def recorded(self, run: Run, play: Callable[[], Any]) -> tuple[RunStatus, Any]:
        """Play a run with a recording of it; of a managed agent, with one that begins here."""
        face, recording = self.face, current.get()
        token = None
        if recording is None or recording.core is not self or recording.run_id:
            caller = None if recording is None else recording.caller
            face.state.update(run.order.inputs)
            begin = partial(face.begin, run.order.task, caller=caller, managed=True)
            recording = begin() if caller is None else await caller.do(begin)
            token = current.set(recording)
        recording.last_value_answers = run.profile.last_value_answers
        recording.run_id = face.run_id = run.journal.run_id
        recording.edits.window = run.window
        self.sync()
        asked = asking.set(recording.asking)
        try:
            status, output = await play()
        except Exception:
            await recording.failed()
            raise
        finally:
            face.state.update(recording.asking.kept)
            asking.reset(asked)
            if token is not None:
                current.reset(token)
        managed = run.journal.parent_run_id is not None
        return status, face.report(output) if managed and status is RunStatus.COMPLETED else output


def overrides_run(managed: object) -> bool:
    """Whether a managed agent runs in a way of its own, which a run of wherry's would pass by."""
    from wherry.compat.smolagents.multi_step import MultiStepAgent

    if not isinstance(managed, MultiStepAgent):
        return True
    kind = type(managed)
    changed = any(getattr(kind, name) is not getattr(MultiStepAgent, name) for name in ("run", "__call__"))
    return changed or "run" in vars(managed)


class CodeCore(Core, CodeAgent):
    """A code agent."""

    def __init__(self, face: MultiStepAgent, *, tags: tuple[str, str], structured: bool, **options: Any) -> None:
        self.face = face
        self._tags, self._structured = tags, structured
        hooks = (Recorder(self), *options.pop("hooks", ()))
        super().__init__((), core_model(face.model), hooks=hooks, **options)
        self.rules = Rules(face)

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        whole = "\n\n".join(part for part in (instructions, _described(schemas)) if part)
        return self.shown(super().prompt(schemas, profile, whole))

    async def play(self, run: Run) -> tuple[RunStatus, Any]:
        return await self.recorded(run, partial(super().play, run))

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        text = fenced(_code_of_json(reply.text) if self._structured else reply.text, self._tags)
        turn = await super().act(run, reply if text == reply.text else replace(reply, text=text))
        if (recording := current.get()) is not None:
            await recording.acted(run.step, turn, ())
        self.sync()
        return turn


def _described(schemas: Sequence[ToolSchema]) -> str:
    """Descriptions of tools that are longer than what a stub says of them: a table's columns, say."""
    longer = [one for one in schemas if len(one.description) > MAX_DESCRIPTION or "\n" in one.description.strip()]
    return "\n".join(f"About {one.name}:\n{one.description.strip()}" for one in longer)


class ToolsCore(Core, ToolCallingAgent):
    """A tool-calling agent."""

    def __init__(self, face: MultiStepAgent, **options: Any) -> None:
        self.face = face
        hooks = (Recorder(self), *options.pop("hooks", ()))
        super().__init__((), core_model(face.model), hooks=hooks, **options)
        self.rules = Rules(face)

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        return self.shown(super().prompt(schemas, profile, instructions))

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        found = super().native(schemas, window)
        final = self.face.tools.get("final_answer")
        if not own_inputs(final):
            return found
        own = ToolSchema("final_answer", cast("Tool", final).description, _parameters(cast("Tool", final)))
        return tuple(own if one.name == "final_answer" else one for one in found)

    async def play(self, run: Run) -> tuple[RunStatus, Any]:
        return await self.recorded(run, partial(super().play, run))

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        if not reply.tool_calls:
            turn = Turn([Message("user", _no_call(reply.text) + MEND)])
        elif own_inputs(self.face.tools.get("final_answer")):
            turn = await super().act(run, replace(reply, tool_calls=[_wrapped(call) for call in reply.tool_calls]))
        else:
            turn = await super().act(run, reply)
        if (recording := current.get()) is not None:
            await recording.acted(run.step, turn, tuple(reply.tool_calls))
        self.sync()
        return turn


def _parameters(tool: Tool) -> dict[str, Any]:
    """The inputs of a tool whose name wherry keeps for itself."""
    inputs = tool.inputs or {}
    return {
        "type": "object",
        "properties": {
            name: {key: value for key, value in body.items() if key != "nullable" and value != "any"}
            for name, body in inputs.items()
        },
        "required": [name for name, body in inputs.items() if not body.get("nullable")],
    }


def _wrapped(call: Any) -> Any:
    """All arguments of a `final_answer` with inputs of its own, as the one answer that wherry's agent looks for."""
    return replace(call, arguments={"answer": dict(call.arguments)}) if call.name == "final_answer" else call


def _no_call(text: str) -> str:
    try:
        parse_json_blob(text)
    except ValueError as error:
        why = str(error)
    else:
        why = "The JSON is no tool call: it needs the keys 'name' and 'arguments'."
    return f"Error while parsing tool call from model output: {why}"


def _code_of_json(text: str) -> str:
    """The code of a reply `{"thought": ..., "code": ...}`, fenced; any other reply as it is."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return text
    code: object = cast("Mapping[str, object]", found).get("code") if isinstance(found, dict) else None
    if not isinstance(code, str):
        return text
    return code if "<code>" in code or "```" in code else f"```python\n{code}\n```"


def as_called(name: str, description: str, call: Callable[..., object]) -> Any:
    """The tool by which a manager asks something that is no agent of these, but can be called like one."""

    def ask(task: str, additional_args: dict[str, Any] | None = None) -> object:
        return call(task, additional_args=additional_args) if additional_args else call(task)

    return wherry_tool(ask, name=name, description=description, timeout=None)
