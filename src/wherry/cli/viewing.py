"""`wherry show RUN --view ...` and `--record N`: one side of a run at a time, whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from wherry.cli.ending import Exit, print_json
from wherry.cli.history import find_run, output_of
from wherry.cli.options import View
from wherry.errors import RunNotFound
from wherry.journal import Event, EventType, read_events
from wherry.messages import Usage
from wherry.observe.costs import aligned, dollars
from wherry.observe.lines import seconds
from wherry.observe.visible import one_line, visible
from wherry.store import RunRow, Store, open_store
from wherry.tools import as_text


def show_view(run_id: str, view: View, *, as_json: bool) -> Exit:
    """One side of a run.

    Raises:
        RunNotFound: no run's id begins like that, several do, or it has no answer yet.
        StoreError: it was pruned.
    """
    store = open_store()
    try:
        run = find_run(store, run_id)
        match view:
            case View.ANSWER:
                _answer(store, run, as_json=as_json)
            case View.CODE:
                _code(store, run, as_json=as_json)
            case View.CALLS:
                _table(_calls(store, run), as_json=as_json, wide="arguments")
            case View.REQUESTS:
                _table(_requests(store, run), as_json=as_json)
            case View.TREE:
                _table(_tree(store, run, 0), as_json=as_json, wide="task")
    finally:
        store.close()
    return Exit.DONE


def show_record(run_id: str, number: int, *, as_json: bool) -> Exit:
    """All of one record, as JSON.

    Raises:
        RunNotFound: no run's id begins like that, several do, or it has fewer records.
        StoreError: it was pruned.
    """
    store = open_store()
    try:
        run = find_run(store, run_id)
        event = next(read_events(store, run.run_id, after=number - 1), None)
    finally:
        store.close()
    if event is None:
        raise RunNotFound(f"run {run.run_id!r} has no record {number}", hint="`wherry show RUN --json` numbers them")
    shown = {"seq": event.seq, "time": event.time, "type": event.type, "agent": event.agent, "payload": event.payload}
    if as_json:
        print_json(shown)
    else:
        sys.stdout.write(f"{visible(json.dumps(shown, indent=2, ensure_ascii=False, default=dict))}\n")
    return Exit.DONE


def _answer(store: Store, run: RunRow, *, as_json: bool) -> None:
    finished = None
    for event in read_events(store, run.run_id):
        finished = event if event.type is EventType.RUN_FINISHED else finished
    if finished is None:
        raise RunNotFound(f"run {run.run_id!r} has no end yet", hint="it is under way, or its process died")
    output = output_of(store, finished)
    if as_json:
        print_json({"run_id": run.run_id, "status": run.status, "output": output})
    else:
        text = as_text(output)
        sys.stdout.write(f"{visible(text) if sys.stdout.isatty() else text}\n")


def _code(store: Store, run: RunRow, *, as_json: bool) -> None:
    """The snippets of a run, as a script whose comments say which step each is of."""
    for event in read_events(store, run.run_id):
        if event.type is not EventType.CODE_STARTED:
            continue
        step, code = event.payload["step"], str(event.payload["code"])
        if as_json:
            print_json({"step": step, "code": code})
        else:
            sys.stdout.write(f"# step {step}\n{visible(code) if sys.stdout.isatty() else code}\n\n")


def _calls(store: Store, run: RunRow) -> Iterator[dict[str, Any]]:  # Any: cells of a table
    """The calls of tools and agents, in the order in which they ended; last those that have not."""
    begun: dict[str, Event] = {}
    for event in read_events(store, run.run_id):
        call = str(event.payload.get("call") or event.payload.get("run_id") or "")
        if event.type in (EventType.TOOL_CALLED, EventType.AGENT_CALLED):
            begun[call] = event
        elif event.type in (EventType.TOOL_RETURNED, EventType.AGENT_RETURNED):
            yield _call(begun.pop(call, event), event)
    for event in begun.values():
        yield _call(event, None)


def _call(begun: Event, ended: Event | None) -> dict[str, Any]:  # Any: cells of a table
    said: Mapping[str, Any] = {} if ended is None else ended.payload
    ok = said.get("ok", said.get("status") == "completed") if ended is not None else None
    arguments = begun.payload.get("arguments", begun.payload.get("task"))
    return {
        "record": begun.seq,
        "step": begun.payload.get("step"),
        "name": begun.payload.get("name"),
        "took": None if ended is None else ended.time - begun.time,
        "ok": ok,
        "result": said.get("preview") or said.get("error"),
        "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
    }


def _requests(store: Store, run: RunRow) -> Iterator[dict[str, Any]]:  # Any: cells of a table
    """The requests to the model; `wherry show RUN --request N` shows one."""
    asked: Event | None = None
    number = held = 0
    for event in read_events(store, run.run_id):
        if event.type is EventType.MODEL_REQUESTED:
            number, asked = number + 1, event
            held = event.payload["keep"] + len(event.payload["add"])
        elif event.type in (EventType.MODEL_REPLIED, EventType.MODEL_FAILED) and asked is not None:
            used = Usage.from_json(event.payload["usage"]) if event.type is EventType.MODEL_REPLIED else Usage()
            yield {
                "request": number,
                "step": asked.payload.get("step"),
                "messages": held,
                "tokens": asked.payload.get("tokens"),
                "window": asked.payload.get("window"),
                "input": used.input_tokens,
                "cached": used.cached_tokens,
                "output": used.output_tokens,
                "USD": dollars(used.usd),
                "took": event.payload.get("seconds"),
                "ended": event.payload.get("finish_reason") or event.payload.get("kind"),
            }


def _tree(store: Store, run: RunRow, depth: int) -> Iterator[dict[str, Any]]:  # Any: cells of a table
    usage = Usage() if run.usage is None else Usage.from_json(run.usage)
    yield {
        "run": "  " * depth + run.run_id,
        "agent": run.agent,
        "status": run.status,
        "took": None if run.finished is None else run.finished - run.started,
        "requests": usage.requests,
        "USD": dollars(usage.usd),
        "task": run.task,
    }
    for child in reversed(store.runs(parent=run.run_id, limit=1 << 31)):
        yield from _tree(store, child, depth + 1)


def _table(rows: Iterator[dict[str, Any]], *, as_json: bool, wide: str | None = None) -> None:  # Any: cells
    """Rows as JSON, or one line each; the column that may be long comes last."""
    if as_json:
        for row in rows:
            print_json({key: value.strip() if key == "run" else value for key, value in row.items()})
        return
    found = list(rows)
    if not found:
        sys.stdout.write("nothing of that\n")
        return
    names = [name for name in found[0] if name not in (wide, "result")]
    table = [tuple(names), *(tuple(_cell(name, row[name]) for name in names) for row in found)]
    lasts = [wide or "", *(one_line(str(row[wide]), 80) if wide else "" for row in found)]
    for line, last in zip(aligned(table, left=3), lasts, strict=True):
        sys.stdout.write(f"{line}  {last}".rstrip() + "\n")


def _cell(name: str, value: Any) -> str:  # Any: a cell
    if value is None:
        return ""
    if name == "took":
        return seconds(float(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else visible(str(value))
