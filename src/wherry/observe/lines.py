"""An event as lines for people: what happened, in few words, with everything that others wrote made safe.

Nothing here knows of runs around it or of the terminal: the console adds the guides of nested agents, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from wherry.journal import Event, EventType
from wherry.observe.visible import head, one_line, visible

Part: TypeAlias = tuple[str, str]
"""A text and its style, in rich's words; `CODE` for Python."""
Line: TypeAlias = Sequence[Part]

CODE = "code"
CODE_LINES = 16
OUTPUT_LINES = 6
ERROR_LINES = 8
ANSWER_LINES = 4
TASK_LINES = 4
TASK_CHARS = 600
GAUGE_CELLS = 8
ARGUMENT_CHARS = 60

Payload: TypeAlias = Mapping[str, Any]  # Any: JSON, of the shape that the event's type has


def lines_of(event: Event) -> list[Line]:
    """The lines of one event; none for those that say nothing to a person."""
    render = _RENDER.get(event.type)
    if render is None:
        return []
    lines = render(event.payload, event.agent)
    if event.type is EventType.RUN_FINISHED and event.parent_run_id is not None and _has_output(event.payload):
        # The answer of the run that a person started is shown whole, by itself; one between agents is shown here.
        rows, more = head(str(event.payload["preview"]), ANSWER_LINES)
        lines += [[("  → ", "dim"), (row, "")] for row in rows]
        lines += _left_out(more, "    ")
    return lines


def _has_output(payload: Payload) -> bool:
    return payload["output"] is not None or "said" in payload


def gauge(tokens: int, window: int | None) -> list[Part]:
    """How full the context window is: `ctx ▕███░░░░░▏ 1,204/8,192`."""
    if not window:
        return [("ctx ", "dim"), (f"{tokens:,}", "dim")]
    share = min(1.0, tokens / window)
    full = round(share * GAUGE_CELLS)
    style = "green" if share < 0.6 else "yellow" if share < 0.85 else "red"
    cells = "█" * full + "░" * (GAUGE_CELLS - full)
    return [("ctx ", "dim"), ("▕", "dim"), (cells, style), ("▏", "dim"), (f" {tokens:,}/{window:,}", "dim")]


def seconds(value: float) -> str:
    """`0.02 s`, `3.2 s`, `2 min 05 s`."""
    if value >= 60:
        return f"{int(value // 60)} min {int(value % 60):02} s"
    return f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _run_started(payload: Payload, agent: str) -> list[Line]:
    about = f"  {payload['kind']} agent on {one_line(str(payload['model']))}"
    if payload.get("window"):
        about += f", window {payload['window']:,}"
    if payload.get("tier"):
        about += f", sandbox {payload['tier']}"
    if payload.get("session"):
        about += f", session {one_line(str(payload['session']), 40)}"
    task, more = head(str(payload["task"]), TASK_LINES, TASK_CHARS)
    lines: list[Line] = [[("● ", "bold"), (visible(agent), "bold cyan"), (about, "dim")]]
    lines += [[(row, "italic")] for row in task]
    return lines + _left_out(more)


def _run_resumed(payload: Payload, agent: str) -> list[Line]:
    after = payload.get("after")
    why = "its process died" if after is None else f"it ended: {after}"
    return [[("● ", "bold"), (visible(agent), "bold cyan"), (f"  goes on after step {payload['step']}; {why}", "dim")]]


def _run_finished(payload: Payload, _agent: str) -> list[Line]:
    status = str(payload["status"])
    mark, style = ("✔", "green") if status == "completed" else ("✘", "red")
    facts = f", {count(payload['steps'], 'step')}, {seconds(payload['usage']['seconds'])}"
    lines: list[Line] = [[(f"{mark} ", style), (status, style), (facts, "dim")]]
    if payload.get("error"):
        rows, more = head(str(payload["error"]), ERROR_LINES)
        lines += [[("  ", ""), (row, "red")] for row in rows]
        lines += _left_out(more)
    return lines


def _model_requested(payload: Payload, _agent: str) -> list[Line]:
    return [[(f"step {payload['step']}  ", "bold"), *gauge(payload["tokens"], payload.get("window"))]]


def _model_replied(payload: Payload, _agent: str) -> list[Line]:
    usage = payload["usage"]
    text = f"  reply of {count(usage['output_tokens'], 'token')} in {seconds(payload['seconds'])}"
    if usage["cached_tokens"]:
        text += f", {usage['cached_tokens']:,} of {usage['input_tokens']:,} prompt tokens from the cache"
    lines: list[Line] = [[(text, "dim")]]
    if payload.get("finish_reason") == "length":
        lines.append([("  ! the reply was cut off: it reached the most tokens that it may have", "yellow")])
    return lines


def _model_failed(payload: Payload, _agent: str) -> list[Line]:
    said = one_line(f"{payload['kind']}: {payload['message']}", 400)
    act = _ACTS.get(str(payload.get("act")))  # journals of earlier versions do not say
    if act is None:
        return [[("  ! the model failed: ", "red"), (said, "red")]]
    wait = payload.get("wait")
    after = f" in {seconds(wait)}" if isinstance(wait, int | float) else ""
    return [[("  ! the model failed: ", "yellow"), (said, "yellow")], [("    ", ""), (f"{act}{after}", "dim")]]


_ACTS: Mapping[str, str] = {
    "shrink": "compacting, and asking again",
    "halve": "halving the window, and asking again",
    "wait": "asking again",
    "retry": "asking again",
    "next_key": "asking with another key",
}


def _tool_called(payload: Payload, _agent: str) -> list[Line]:
    given = ", ".join(f"{name}={_argument(value)}" for name, value in payload["arguments"].items())
    return [[("  ", ""), (visible(str(payload["name"])), "cyan"), (f"({visible(given)})", "")]]


def _tool_returned(payload: Payload, _agent: str) -> list[Line]:
    style = "" if payload["ok"] else "red"
    rows, more = head(str(payload["preview"]), OUTPUT_LINES)
    took = f"  ({seconds(payload['seconds'])})"
    first: Line = [("  → ", "dim"), (rows[0], style), (took, "dim")]
    return [first, *([("    ", ""), (row, style)] for row in rows[1:]), *_left_out(more, "    ")]


def _code_started(payload: Payload, _agent: str) -> list[Line]:
    rows, more = head(str(payload["code"]), CODE_LINES)
    return [*([("  ▏ ", "dim"), (row, CODE)] for row in rows), *_left_out(more, "  ▏ ")]


def _code_finished(payload: Payload, _agent: str) -> list[Line]:
    lines: list[Line] = []
    if payload["stdout"]:
        rows, more = head(str(payload["stdout"]), OUTPUT_LINES)
        lines += [[("  → ", "dim"), (row, "")] for row in rows]
        lines += _left_out(more, "    ")
    if payload["value"] is not None and not payload["final"]:
        lines.append([("  → value: ", "dim"), (one_line(str(payload["value"])), "")])
    if not payload["ok"]:
        rows = visible(str(payload["error"])).rstrip("\n").split("\n")
        # The end of a traceback says what went wrong.
        lines += [[("  → ", "dim"), (row[:160], "red")] for row in rows[-ERROR_LINES:]]
    if payload.get("refused"):
        what = ", ".join(str(call) for call in payload["refused"])
        lines.append([("  ! the sandbox refused: ", "yellow"), (one_line(what), "yellow")])
    lines.append([(f"  ran in {seconds(payload['seconds'])}", "dim")])
    return lines


def _offloaded(payload: Payload, _agent: str) -> list[Line]:
    size = f"{payload['bytes']:,} bytes of {one_line(str(payload['media_type']), 40)}"
    text = (
        f"  ⇣ {size} set aside as {payload['ref']}: "
        f"{payload['tokens_before']:,} → {payload['tokens_after']:,} tokens in the context"
    )
    return [[(text, "magenta")]]


def _compacted(payload: Payload, _agent: str) -> list[Line]:
    before, after = payload["tokens_before"], payload["tokens_after"]
    turns = count(payload["groups"], "turn")
    return [[(f"  ⇣ context compacted: {turns} folded, {before:,} → {after:,} tokens", "magenta")]]


def _speaker_chosen(payload: Payload, _agent: str) -> list[Line]:
    who = one_line(" and ".join(str(name) for name in payload["speakers"]), 200)
    how = one_line(str(payload["how"]) + (f": {payload['why']}" if payload.get("why") else ""), 200)
    said = f"round {payload['round']}  " if who else "the chat is over  "
    return [[(said, "bold"), (who, "cyan"), (f"  {how}", "dim")]]


def _tools_changed(payload: Payload, _agent: str) -> list[Line]:
    parts = [
        f"{verb} {', '.join(str(name) for name in payload[verb])}"
        for verb in ("added", "removed", "changed")
        if payload.get(verb)
    ]
    if payload.get("code"):
        parts.append(f"new code of {', '.join(str(name) for name in payload['code'])}")
    return [[(f"  tools {one_line('; '.join(parts))}", "magenta")]]


def _changed(what: str) -> Callable[[Payload, str], list[Line]]:
    def render(_payload: Payload, _agent: str) -> list[Line]:
        return [[(f"  {what} changed", "magenta"), (" (wherry changes shows how)", "dim")]]

    return render


def _approval_requested(payload: Payload, _agent: str) -> list[Line]:
    arguments = ", ".join(f"{one_line(str(name))}={_argument(value)}" for name, value in payload["arguments"].items())
    call = f"{one_line(str(payload['name']))}({arguments})"
    id = one_line(str(payload["id"]))
    return [
        [("  ? ", "bold yellow"), (call, "yellow"), (f" waits for a person: {one_line(str(payload['why']), 300)}", "")],
        [("    ", ""), (f"wherry approve {id}    wherry deny {id} --reason '...'", "dim")],
    ]


def _approval_decided(payload: Payload, _agent: str) -> list[Line]:
    word = ("approved", "green") if payload["approved"] else ("denied", "red")
    rest = f" {one_line(str(payload['name']))}"
    if payload.get("by"):
        rest += f" by {one_line(str(payload['by']))}"
    if payload.get("reason"):
        rest += f": {one_line(str(payload['reason']), 300)}"
    return [[("  ", ""), word, (rest, "")]]


def _plan_made(payload: Payload, _agent: str) -> list[Line]:
    rows, more = head(str(payload["plan"]), TASK_LINES, TASK_CHARS)
    return [[("  plan:", "dim")], *([("    ", ""), (row, "italic")] for row in rows), *_left_out(more, "    ")]


def _limit_reached(payload: Payload, _agent: str) -> list[Line]:
    return [[(f"  ! limit reached: {payload['limit']} {payload['value']}", "yellow")]]


def _warning(payload: Payload, _agent: str) -> list[Line]:
    hint = one_line(str(payload.get("hint") or ""), 300)
    text = one_line(str(payload["message"]), 300)
    return [[("  ! ", "yellow"), (text, "yellow"), (f" ({hint})" if hint else "", "dim")]]


def _argument(value: object) -> str:
    return one_line(repr(value), ARGUMENT_CHARS)


def _left_out(more: int, indent: str = "") -> list[Line]:
    return [[(f"{indent}… {count(more, 'line')} more", "dim")]] if more else []


_RENDER: Mapping[EventType, Callable[[Payload, str], list[Line]]] = {
    EventType.RUN_STARTED: _run_started,
    EventType.RUN_RESUMED: _run_resumed,
    EventType.RUN_FINISHED: _run_finished,
    EventType.MODEL_REQUESTED: _model_requested,
    EventType.MODEL_REPLIED: _model_replied,
    EventType.MODEL_FAILED: _model_failed,
    EventType.TOOL_CALLED: _tool_called,
    EventType.TOOL_RETURNED: _tool_returned,
    EventType.CODE_STARTED: _code_started,
    EventType.CODE_FINISHED: _code_finished,
    EventType.CONTEXT_OFFLOADED: _offloaded,
    EventType.CONTEXT_COMPACTED: _compacted,
    EventType.TOOLS_CHANGED: _tools_changed,
    EventType.PROMPT_CHANGED: _changed("prompt"),
    EventType.MODEL_CHANGED: _changed("model"),
    EventType.POLICY_CHANGED: _changed("policy"),
    EventType.APPROVAL_REQUESTED: _approval_requested,
    EventType.APPROVAL_DECIDED: _approval_decided,
    EventType.SPEAKER_CHOSEN: _speaker_chosen,
    EventType.PLAN_MADE: _plan_made,
    EventType.LIMIT_REACHED: _limit_reached,
    EventType.WARNING: _warning,
}
