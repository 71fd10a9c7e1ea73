"""What a code agent does with a reply: runs its snippet, records what came of it, and brings sessions back.

Loaded with the first run, not with the agent's class: see `CodeAgent.act`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wherry.agents import prompts
from wherry.agents.acting import PREVIEW_CHARS, announce, perform, refuse
from wherry.agents.handing import INLINE_BYTES, as_lists, encoded, taken_out
from wherry.agents.keeping import keep
from wherry.agents.kept_files import KeptFiles, keep_files
from wherry.agents.loop import Turn
from wherry.agents.recorded_code import bound
from wherry.agents.reply import UnreadableReplyError, code_of
from wherry.agents.run import Run
from wherry.agents.whole_texts import kept_text, text_again
from wherry.context.untrusted import Untrusted
from wherry.errors import Refuse, SandboxError, ToolError
from wherry.failpoints import failpoint
from wherry.journal import EventType
from wherry.messages import Message, canonical, parse
from wherry.models import ModelProfile, ModelReply
from wherry.sandbox import Conditions, Execution
from wherry.sandbox.snippet import new_seed
from wherry.sandbox.values import Encoded, describe, restore
from wherry.tools import as_text

if TYPE_CHECKING:
    from wherry.agents.code_agent import CodeAgent

_MISSING = re.compile(r"^ModuleNotFoundError: No module named '(?P<name>[A-Za-z_]\w*)", re.MULTILINE)


async def act(agent: CodeAgent, run: Run, reply: ModelReply) -> Turn:
    """Run the code of a reply, and turn what came of it into an observation."""
    try:
        code = code_of(reply.text)
    except UnreadableReplyError as problem:
        cut = " (It was cut off: it reached the most tokens a reply may have.)"
        return Turn([Message("user", f"{problem}{cut if reply.finish_reason == 'length' else ''}")])
    if run.hooks is not None:
        try:
            code = await run.hooks.before_code(code)
        except Refuse as refusal:
            return Turn([Message("user", _refused(run, code, refusal.message))])
    known = None if run.resumed is None else run.resumed.code
    if known is not None and known.finished is not None and known.code == code:
        return _recorded(agent, run, code, known.finished)
    execution, seen = await _execute(agent, run, code)
    if run.pending or run.fatal is not None:
        return Turn()
    if run.hooks is not None:
        await run.hooks.after_code(code, execution)
    message = [Message("user", seen)]
    if _answers(agent, run, execution):
        return Turn(message, answered=True, answer=taken_out(run, execution.value))
    return Turn(message)


def _recorded(agent: CodeAgent, run: Run, code: str, finished: Mapping[str, Any]) -> Turn:
    """What came of a snippet that was run before the run was interrupted."""
    seen, notes = text_again(run, {"preview": "", **finished["seen"]}), [*finished.get("notes", ())]
    if "answer" not in finished and finished["ok"]:
        notes += _reminders(run, code)
    run.last_code = code
    message = [Message("user", _told(seen, notes, untrusted="untrusted" in finished))]
    if "answer" not in finished:
        return Turn(message)
    answer = restore(finished["answer"]) if finished["answer"] is not None else None
    if "answer_ref" in finished:
        answer = restore(parse(run.store.artifacts.read(finished["answer_ref"])))
    return Turn(message, answered=True, answer=answer)


def _answers(agent: CodeAgent, run: Run, execution: Execution) -> bool:
    by_value = _answers_by_value(agent, run.profile) and execution.ok and execution.value is not None
    return execution.final or by_value


def _answers_by_value(agent: CodeAgent, profile: ModelProfile) -> bool:
    # A manager's last value is what a specialist said: a finding, seldom the answer.
    return profile.last_value_answers and not agent.managed_agents


async def _execute(agent: CodeAgent, run: Run, code: str) -> tuple[Execution, str]:
    """Run a snippet; what became of it, and what the model sees of it."""
    known = None if run.resumed is None else run.resumed.code
    if known is not None and known.code == code:
        # It was interrupted: it does again what it did, and goes on from there.
        conditions = Conditions(known.seed, known.clock, partial=known.clock is not None)
    else:
        seed = new_seed()
        conditions = Conditions(seed)
        run.journal.record(EventType.CODE_STARTED, step=run.step, code=code, seed=seed)
        await run.journal.commit()
    names, notes = [*run.toolbox.tools], list[str]()
    if run.ran_code:
        run.ran_code = False
        notes += await _rebuild(agent, run, names)
    session = run.sandbox
    if session is None or not session.alive:
        session = await agent.open_session(run, names)

    async def call(name: str, args: list[Any], kwargs: dict[str, Any]) -> Encoded:
        try:
            return await _call_from_code(run, name, args, kwargs)
        finally:
            if run.fatal is not None or run.pending:
                session.interrupt()

    failpoint("snippet.committed")
    execution = await session.run(code, call_tool=call, tools=names, conditions=conditions)
    failpoint("snippet.ran")
    kept = await keep_files(run, session)
    interrupted = run.fatal is not None or bool(run.pending)
    notes += kept.told()
    _record(run, execution, kept, notes, interrupted=interrupted, answers=_answers(agent, run, execution))
    if interrupted:
        return execution, ""
    _warn_of_missing(run, execution)
    if not session.alive and not execution.final and run.fatal is None:
        notes.append(await _restore(agent, run, names))
    if execution.ok and not execution.final:
        notes += _reminders(run, code)
    run.last_code = code
    return execution, _told(_observation(execution), notes, untrusted=run.taint.entered)


async def _rebuild(agent: CodeAgent, run: Run, names: Sequence[str]) -> list[str]:
    """In a run that goes on: a session, brought to where the one of the process before was. Notes for the model."""
    try:
        rebuilt, _ = await agent.rebuild_session(run, names)
    except SandboxError as error:
        if run.sandbox is not None:
            await run.sandbox.close()
        run.warn(f"the variables of the snippets before are lost: {error.message}")
        return [prompts.started_anew(error.message)]
    return [prompts.rebuilt(rebuilt.snippets, rebuilt.left_out)] if rebuilt.left_out else []


async def _restore(agent: CodeAgent, run: Run, names: Sequence[str]) -> str:
    """After a snippet that ended its session: a new one, brought to where the old one was before that snippet."""
    await run.journal.commit()
    try:
        rebuilt, recorded = await agent.rebuild_session(run, names)
    except SandboxError as error:
        if run.sandbox is not None:
            await run.sandbox.close()
        run.warn(f"the sandbox was ended by a snippet, and its variables are lost: {error.message}")
        return prompts.started_anew(error.message)
    missing = [number for number in rebuilt.left_out if number < recorded]
    run.warn(f"the sandbox was ended by a snippet; a new one was made, and {rebuilt.snippets} snippets run again")
    return prompts.rebuilt(rebuilt.snippets, missing)


async def _call_from_code(run: Run, name: str, args: list[Any], kwargs: dict[str, Any]) -> Encoded:
    """A call made by a snippet. An error that the snippet may catch is raised as ToolError."""
    arguments, problem = bound(run, name, as_lists(args), as_lists(kwargs))
    call = run.next_call(name, arguments)
    if problem is not None:
        refuse(run, name, call, arguments, problem)
        raise ToolError(problem)
    announce(run, name, call, arguments)
    await run.journal.commit()
    outcome = await perform(run, name, call, arguments, keep_value=True)
    if outcome.handed is None:
        raise ToolError(outcome.error)
    return outcome.handed.value


def _warn_of_missing(run: Run, execution: Execution) -> None:
    """The model is told what there is; only the user can add to it."""
    found = _MISSING.search(execution.error) if execution.kind == "exception" else None
    if found is None or found["name"] in sys.stdlib_module_names:
        return
    message = f"a snippet tried to import {found['name']!r}, which is not in the sandbox"
    if message not in run.warnings:
        run.warn(message, f"authorized_imports=[{found['name']!r}] makes it importable")


def _record(
    run: Run,
    execution: Execution,
    kept: KeptFiles,
    notes: Sequence[str],
    *,
    interrupted: bool,
    answers: bool,
) -> None:
    """Record a snippet's end, and what a run that is interrupted now needs to go on without running it again."""
    payload: dict[str, Any] = {}
    if interrupted:
        payload["interrupted"] = True
    else:
        payload["seen"] = kept_text(run, Message("user", _observation(execution)), most=0)
        if notes:
            payload["notes"] = [*notes]
        if run.taint.entered:
            payload["untrusted"] = list(run.taint.sources)
        if answers:
            payload |= _answer(run, taken_out(run, execution.value))
    if execution.conditions is not None and (execution.conditions.clock or interrupted):
        payload["clock"] = execution.conditions.clock
    if kept.files:
        payload["files"] = [asdict(file) for file in kept.files]
    run.journal.record(
        EventType.CODE_FINISHED,
        step=run.step,
        ok=execution.ok,
        kind=execution.kind,
        stdout=execution.stdout[:PREVIEW_CHARS],
        stderr=execution.stderr[:PREVIEW_CHARS],
        value=_shown(execution.value)[:PREVIEW_CHARS] if execution.has_value else None,
        error=execution.error[:PREVIEW_CHARS],
        seconds=round(execution.seconds, 6),
        tier=execution.tier,
        refused=list(execution.refused),
        final=execution.final,
        **payload,
    )


def _refused(run: Run, code: str, why: str) -> str:
    """Record code that a hook refused, and what the model sees of it. It has an end and no start: it never ran."""
    run.journal.record(
        EventType.CODE_FINISHED,
        step=run.step,
        ok=False,
        kind="hook",
        code=code[:PREVIEW_CHARS],
        stdout="",
        stderr="",
        value=None,
        error=why[:PREVIEW_CHARS],
        seconds=0.0,
        tier=run.agent.tier,
        refused=[],
        final=False,
    )
    return f"Error:\nThe code was not run: {why}"


def _shown(value: object) -> str:
    return describe(value) or as_text(value)


def _reminders(run: Run, code: str) -> list[str]:
    if run.step == run.order.max_steps - 1:
        return [prompts.ONE_STEP_LEFT]
    return [prompts.SAME_AGAIN] if code == run.last_code else []


def _answer(run: Run, answer: object) -> dict[str, Any]:
    """A final answer, for an event's payload."""
    tree = encoded(answer).tree
    data = canonical(tree)
    if len(data) <= INLINE_BYTES:
        return {"answer": tree}
    kept = keep(run, data, media_type="application/json")
    return {} if kept is None else {"answer": None, "answer_ref": kept.ref}


def _told(seen: str, notes: Sequence[str], *, untrusted: bool) -> str:
    """What the model sees. A snippet gets untrusted values as they are: once there are any, all it prints may be."""
    if seen and untrusted:
        return Untrusted(seen, source="code", after="\n".join(notes))
    return "\n".join([seen or ("" if notes else prompts.NOTHING_PRINTED), *notes]).lstrip("\n")


def _observation(execution: Execution) -> str:
    """What a snippet gave; an empty text if that is nothing."""
    parts: list[str] = []
    if execution.stdout:
        parts.append(f"Output:\n{execution.stdout.rstrip()}")
    if execution.stderr:
        parts.append(f"Standard error:\n{execution.stderr.rstrip()}")
    if execution.ok and execution.has_value and execution.value is not None:
        parts.append(f"Value: {_shown(execution.value)}")
    if not execution.ok:
        parts.append(f"Error:\n{execution.error}")
    return "\n".join(parts)
