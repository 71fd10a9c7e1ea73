"""The agent loop: build the request, ask the model, act, record. Both kinds of agent play it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Protocol

from wherry.agents import prompts
from wherry.agents.planning import plan
from wherry.agents.result import RunStatus
from wherry.agents.run import Run
from wherry.context.untrusted import Untrusted
from wherry.errors import OutputError, Refuse
from wherry.journal import EventType
from wherry.messages import Message
from wherry.models import ModelReply


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one reply."""

    messages: Sequence[Message] = ()
    """What the model is to see of it."""
    _: KW_ONLY
    answered: bool = False
    answer: Any = None  # Any: the model's final answer, not yet checked
    answer_call: str | None = None
    """The call of `final_answer`, where the answer came by one: it is owed a result."""

    def closed(self, verdict: str) -> Sequence[Message]:
        """The messages, with what became of the answer: as the call's result, else in the last user's message.

        Not as a user's message of its own behind another: many chat templates refuse two of them in a row.
        """
        if self.answer_call is not None:
            return [*self.messages, Message("tool", verdict, tool_call_id=self.answer_call, name="final_answer")]
        if not self.messages:
            return [Message("user", verdict)]
        *before, last = self.messages
        if isinstance(last.content, Untrusted):
            return [*before, replace(last, content=last.content.followed_by(verdict))]
        return [*before, replace(last, content=f"{last.content}\n{verdict}")]


class Acts(Protocol):
    """How a kind of agent turns a reply into acts, and acts into observations."""

    async def act(self, run: Run, reply: ModelReply) -> Turn: ...


async def play(run: Run, acts: Acts) -> tuple[RunStatus, Any]:
    """Step until the agent has an answer that its rules accept, or has no steps left."""
    while (reply := run.unacted()) is not None or run.step < run.order.max_steps:
        if reply is None:
            run.step, run.calls = run.step + 1, 0
            if run.agent.planning_interval is not None:
                await plan(run)
            try:
                reply = await run.ask()
            except Refuse as refusal:  # a hook's
                await run.tell(Message("user", prompts.not_asked(refusal.message)))
                continue
        turn = await acts.act(run, reply)
        if run.fatal is not None:
            raise run.fatal
        if run.pending:  # nothing is told of this turn: it is played again when there is an answer
            return RunStatus.WAITING, None
        run.resumed = None
        if not turn.answered:
            await _tell(run, turn.messages)
            continue
        try:
            answer = await run.rules.accept(turn.answer)
        except OutputError as refusal:
            await _tell(run, turn.closed(prompts.check_failed(refusal.message)))
        else:
            run.spoken = turn.answer_call is None and not turn.messages
            await _tell(run, turn.messages if turn.answer_call is None else turn.closed("Answer accepted."))
            return RunStatus.COMPLETED, answer
    return RunStatus.MAX_STEPS, await _last_word(run)


async def _last_word(run: Run) -> Any:
    """One request without tools, at the end of the steps: its text is the output, if the rules accept it."""
    run.journal.record(EventType.LIMIT_REACHED, limit="max_steps", value=run.order.max_steps)
    await run.tell(Message("user", prompts.LAST_WORD))
    try:
        reply = await run.ask(with_tools=False, aside="last word")
        return await run.rules.accept(reply.text.strip())
    except Refuse as refusal:
        run.warn(f"a hook refused the last word at max_steps: {refusal.message}")
        return None
    except OutputError as refusal:
        run.warn(f"the last word at max_steps was not accepted: {refusal.message}", "raise max_steps")
        return None


async def _tell(run: Run, messages: Sequence[Message]) -> None:
    for message in messages:
        await run.tell(message)
