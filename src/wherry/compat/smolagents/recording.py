"""The steps of one run, made while it happens and given to whoever wants them: memory, callbacks, a stream, the log."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any  # Any: answers are of any kind

from wherry.agents.acting import Outcome
from wherry.agents.loop import Turn
from wherry.compat.smolagents.adapter import Asking
from wherry.compat.smolagents.amending import Edits
from wherry.compat.smolagents.errors import (
    AgentError,
    AgentExecutionError,
    AgentMaxStepsError,
    AgentParsingError,
    AgentToolCallError,
    AgentToolExecutionError,
)
from wherry.compat.smolagents.memory import ActionStep, FinalAnswerStep, Lazily, MemoryStep, PlanningStep, ToolCall
from wherry.compat.smolagents.messages import ChatMessage, ChatMessageStreamDelta, reply_to_chat, to_chat
from wherry.compat.smolagents.monitoring import LogLevel, Timing, TokenUsage
from wherry.compat.smolagents.outputs import ActionOutput, ToolOutput
from wherry.compat.smolagents.streaming import Caller
from wherry.compat.smolagents.text import truncate_content
from wherry.compat.smolagents.tools import Tool, validate_tool_arguments
from wherry.context.untrusted import Untrusted
from wherry.errors import WherryError
from wherry.journal import Event, EventType
from wherry.messages import ToolCall as Call
from wherry.models import ModelReply, ModelRequest
from wherry.sandbox import Execution
from wherry.tools.threads import run_in_thread

if TYPE_CHECKING:
    from wherry.compat.smolagents.multi_step import MultiStepAgent

_LINE = re.compile(r"^\s*-> \d+ \| (.*)$", re.MULTILINE)
"""A line of a snippet's traceback."""


class InterruptedRun(WherryError):
    """`agent.interrupt()` was called."""


class Recording:
    """One run of one agent."""

    def __init__(
        self,
        face: MultiStepAgent,
        core: object,
        *,
        images: Sequence[Any] = (),
        caller: Caller | None = None,
        managed: bool = False,
        response_format: Mapping[str, Any] | None = None,
    ) -> None:
        self.face, self.core = face, core
        self.caller = caller
        """Who hears of the steps; None where one of wherry's own agents asks."""
        self.run_id = ""
        self.asking = Asking({**face.tools, **face.managed_agents}, images)
        self.edits = Edits()
        self.exhausted = False
        """Whether the steps have run out, and what is asked for is the last word."""
        self.refused = False
        self._images = list(self.asking.pictures)
        self._format = response_format
        self._asked_at: float | None = None
        self._request: ModelRequest | None = None
        self._reply: ModelReply | None = None
        self._outcomes: dict[str, tuple[Call, Outcome]] = {}
        self._results: dict[str, Any] = {}
        self._code_said = ""
        self.managed = managed
        self.last_value_answers = False
        """Whether the model's snippets end a run by their last value; then nothing is put behind them."""
        self._ran: tuple[str, Execution] | None = None
        self._plan: PlanningStep | None = None
        self._step: ActionStep | None = None
        self._source = ""
        """The tool from outside that gave what was observed last."""

    def named(self) -> Mapping[str, Any]:
        """What the names in arguments and answers may stand for."""
        return {**self.face.state, **self.asking.kept} if self.face.names_state else self.asking.kept

    # ---- what hooks tell

    async def before_model(self, request: ModelRequest) -> ModelRequest | None:
        if self._plan is not None:
            plan, self._plan = self._plan, None
            await self._planned(plan)
        if self.face.interrupt_switch:
            raise InterruptedRun("Agent interrupted.")
        if await self._edited() and (window := self.edits.window) is not None:
            system, most = request.messages[0], request.max_output
            fitted = await window.request(system=system, tools=request.tools, max_output=most)
            request = replace(request, messages=fitted.messages)
        request = self._changed(request)
        self._asked_at, self._request, self._reply = time.time(), request, None
        return request

    async def _edited(self) -> bool:
        """Whether the memory was changed by the program; another run of the same agent does so too, by beginning."""
        return self.face.recording is self and await self.edits.apply(self.face.memory.steps)

    def _changed(self, request: ModelRequest) -> ModelRequest:
        changed = request
        if self._format is not None:
            changed = replace(changed, response_format=self._format)
        if self._images:
            messages = list(request.messages)
            for number, message in enumerate(messages):
                if message.role == "user":
                    messages[number] = replace(message, images=[*self._images, *message.images])
                    break
            changed = replace(changed, messages=messages)
        return changed

    def after_model(self, request: ModelRequest, reply: ModelReply) -> None:
        self._request, self._reply = request, reply

    def after_tool(self, call: Call, outcome: Outcome) -> None:
        self._outcomes[call.id] = (call, outcome)
        if outcome.ok:
            self._results[call.id] = outcome.value

    def before_code(self, code: str) -> str | None:
        self._code_said = code
        changed = code if self.last_value_answers else with_value(code)
        final = self.face.tools.get("final_answer")
        if isinstance(final, Tool) and set(final.inputs or ()) != {"answer"}:
            changed = f"{taking(final.inputs or {})}\n{changed}"
        return None if changed == code else changed

    def after_code(self, code: str, execution: Execution) -> None:
        self._ran = (self._code_said, execution)

    def on_event(self, event: Event) -> None:
        if event.run_id != self.run_id:
            return
        if event.type is EventType.PLAN_MADE:
            message = self._said()
            self._plan = PlanningStep(
                self._input(), message, str(message.content or ""), self._timing(), message.token_usage
            )
            self.edits.note(self._plan)
        elif event.type is EventType.LIMIT_REACHED and event.payload["limit"] == "max_steps":
            self.exhausted = True
        elif event.type is EventType.MODEL_DELTA and self.caller is not None and not self.managed:
            self.caller.emit(ChatMessageStreamDelta(event.payload["text"]))

    # ---- what the agent's turn tells

    async def acted(self, number: int, turn: Turn, calls: Sequence[Call]) -> None:
        """After the acts of a step; an answer is still to be accepted."""
        step = self._step = self._begun(number)
        sources = (message.content.source for message in turn.messages if isinstance(message.content, Untrusted))
        self._source = next(sources, "")
        if self._ran is not None:
            self._code(step, *self._ran)
        elif calls:
            self._calls(step, calls, turn)
        elif not turn.answered:
            said = turn.messages[-1].content if turn.messages else ""
            step.error = self._parsing_error(said)
        self._ran = None
        self._outcomes = {}
        if not turn.answered:
            await self._end(step)

    async def answered(self, answer: object, error: AgentError | None) -> None:
        """After an answer was accepted or refused."""
        step = self._step
        if step is None:
            return
        step.error = error
        step.action_output = answer
        step.is_final_answer = error is None
        await self._end(step)

    async def gave_up(self, answer: str) -> None:
        """After the last word."""
        step = self._begun(self.face.step_number)
        step.error = AgentMaxStepsError("Reached max steps.")
        step.action_output = answer
        await self._end(step)
        self.face.step_number = step.step_number

    async def closed(self, step: FinalAnswerStep) -> None:
        """After the run."""
        await self._told(partial(self._close, step))

    def _close(self, step: FinalAnswerStep) -> None:
        self.face.logger.log_markdown(f"Final answer: {step.output}", level=LogLevel.INFO)
        self.face.finalize_step(step)

    async def failed(self) -> None:
        """After a request that was not answered."""
        if self._asked_at is not None and self._reply is None:
            await self._end(self._begun(self.face.step_number))

    # ---- steps

    def _begun(self, number: int) -> ActionStep:
        step = ActionStep(number, self._timing(), self._input())
        if self._reply is not None:
            message = self._said()
            step.model_output_message, step.token_usage = message, message.token_usage
            step.model_output = self._closed(message)
        return step

    def _closed(self, message: ChatMessage) -> Any:
        """What was said; with the closing tag, where a server cut it off as a stop sequence."""
        opening, closing = getattr(self.face, "code_block_tags", ("", ""))
        said = message.content
        if opening and isinstance(said, str) and opening in said and not said.strip().endswith(closing):
            message.content = said = said + closing
        return said or None

    def _timing(self) -> Timing:
        return Timing(self._asked_at or time.time(), time.time())

    def _input(self) -> Lazily:
        request, pictures = self._request, self.asking.pictures
        return Lazily(lambda: [] if request is None else to_chat(request.messages, pictures))

    def _said(self) -> ChatMessage:
        if isinstance(self.asking.answer, ChatMessage):
            return self.asking.answer
        reply = self._reply or ModelReply()
        message = reply_to_chat(reply)
        used = reply.usage
        message.token_usage = None if used is None else TokenUsage(used.input_tokens, used.output_tokens)
        return message

    def _parsing_error(self, said: str) -> AgentParsingError:
        return AgentParsingError(said)

    def _code(self, step: ActionStep, code: str, execution: Execution) -> None:
        step.code_action = code
        step.tool_calls = [ToolCall("python_interpreter", code, f"call_{len(self.face.memory.steps)}")]
        logs = execution.stdout
        most = getattr(self.face, "max_print_outputs_length", None)
        if most is not None:
            logs = truncate_content(logs, most)
        if not execution.ok:
            step.observations = f"Execution logs:\n{logs}" if logs else None
            step.error = AgentExecutionError(_where(execution.error))
            return
        value = truncate_content(str(execution.value))
        step.observations = f"Execution logs:\n{logs}Last output from code snippet:\n{value}"
        step.action_output = execution.value

    def _calls(self, step: ActionStep, calls: Sequence[Call], turn: Turn) -> None:
        step.tool_calls = [ToolCall(call.name, dict(call.arguments), call.id) for call in calls]
        seen: list[str] = []
        for call in calls:
            if call.id in self._outcomes:
                made, outcome = self._outcomes[call.id]
                if outcome.ok:
                    seen.append(str(outcome.value).strip())
                else:
                    step.error = step.error or self._call_error(made, outcome.error)
            elif call.name == "final_answer" and turn.answered:
                seen.append(str(turn.answer).strip())
            else:  # its arguments could not be read
                said = next((m.content for m in turn.messages if m.tool_call_id == call.id), "")
                step.error = step.error or AgentToolCallError(said.removeprefix("Error: "))
        step.observations = "\n".join(seen)

    def _call_error(self, call: Call, said: str) -> AgentError:
        face, given = self.face, dict(call.arguments)
        known = {**face.tools, **face.managed_agents}
        if call.name not in known and "there is no tool" in said:
            return AgentToolExecutionError(f"Unknown tool {call.name}, should be one of: {', '.join(known)}.")
        tool = face.tools.get(call.name)
        if isinstance(tool, Tool):
            try:
                validate_tool_arguments(tool, given)
            except (TypeError, ValueError) as error:
                return AgentToolCallError(str(error))
        if call.name in face.managed_agents:
            text = f"Error executing request to team member '{call.name}' with arguments {given}: {said}"
            return AgentToolExecutionError(f"{text}\nPlease try again or request to another team member")
        text = f"Error executing tool '{call.name}' with arguments {given}: {said}"
        return AgentToolExecutionError(f"{text}\nPlease try again or use another tool")

    async def _end(self, step: ActionStep) -> None:
        self._step, self._asked_at = None, None
        step.timing.end_time = time.time()
        if self._reply is not None:
            self.edits.note(step, self._source)
        if self.caller is not None and not self.managed:
            for call in step.tool_calls or ():
                self.caller.emit(call)
                if step.code_action is None and call.id in self._results:
                    value = self._results[call.id]
                    self.caller.emit(ToolOutput(call.id, value, False, str(value).strip(), call))
                elif step.is_final_answer and call.name == "final_answer":
                    said = step.action_output
                    self.caller.emit(ToolOutput(call.id, said, True, str(said).strip(), call))
            if step.error is None:
                self.caller.emit(ActionOutput(step.action_output, step.is_final_answer))
        try:
            await self._told(partial(self._show, step))
        finally:
            self._kept(step)
            self.face.step_number = step.step_number + 1
        await self._hand_over(step)

    async def _planned(self, plan: PlanningStep) -> None:
        self.face.logger.log_markdown(plan.plan, "Plan", level=LogLevel.INFO)
        await self._told(partial(self.face.finalize_step, plan))
        self._kept(plan)
        await self._hand_over(plan)

    def _kept(self, step: MemoryStep) -> None:
        step.__dict__["_run"] = self.run_id
        self.face.memory.steps.append(step)
        self.edits.noted(step)

    def _show(self, step: ActionStep) -> None:
        """Print a step, and call what wants to know of it."""
        log = self.face.logger
        log.log_rule(f"Step {step.step_number}", level=LogLevel.INFO)
        if step.model_output:
            log.log_markdown(str(step.model_output), "Output message of the LLM:", level=LogLevel.DEBUG)
        if step.code_action:
            log.log_code("Executing parsed code:", step.code_action, level=LogLevel.INFO)
        for call in step.tool_calls or ():
            if call.name != "python_interpreter":
                log.log_code(f"Calling tool: '{call.name}' with arguments:", str(call.arguments), level=LogLevel.INFO)
        if step.observations:
            log.log_markdown(step.observations, "Observations:", level=LogLevel.INFO)
        if step.error is not None:
            log.log_error(step.error.message)
            if step.code_action and "No module named" in step.error.message:
                log.log_error("Packages can be imported that are named in `additional_authorized_imports`.")
        self.face.finalize_step(step)

    async def _told(self, tell: Callable[[], None]) -> None:
        """Call something of the user's: where `run` was called, else in a thread, since it may block."""
        if self.caller is not None:
            await self.caller.do(tell)
        else:
            await run_in_thread(tell, timeout=None)

    async def _hand_over(self, step: MemoryStep) -> None:
        """Give a stream its step, and go on when the next is asked for."""
        if self.caller is not None and not self.managed:
            await self.caller.hand_over(step)


def _where(error: str) -> str:
    """The error of a snippet, with the line that failed first."""
    line = _LINE.search(error)
    if line is None:
        return error
    last = error.rstrip().rsplit("\n", 1)[-1]
    return f"Code execution failed at line '{line[1].strip()}' due to: {last}\n{error}"


def taking(inputs: Mapping[str, Mapping[str, Any]]) -> str:
    """A line that lets `final_answer` take these inputs, for a snippet to begin with: the sandbox's takes one value."""
    parameters = ", ".join(f"{name}=None" if body.get("nullable") else name for name, body in inputs.items())
    together = ", ".join(f"{name!r}: {name}" for name in inputs)
    return f"final_answer = (lambda give: lambda {parameters}: give({{{together}}}))(final_answer)"


def with_value(code: str) -> str:
    """Code that also shows what its last statement assigned: models that know smolagents count on seeing it."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        # The last where another thread parses meanwhile: https://github.com/python/cpython/issues/106905 (3.11.7).
        return code
    last = body[-1] if body else None
    targets = last.targets if isinstance(last, ast.Assign) else [last.target] if isinstance(last, ast.AnnAssign) else []
    if len(targets) == 1 and isinstance(targets[0], ast.Name):
        return f"{code.rstrip()}\n{targets[0].id}"
    return code


current: ContextVar[Recording | None] = ContextVar("wherry_smolagents_recording", default=None)
