"""`wherry changes`: what agents were made of, and what of it became different when."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wherry.cli.ending import Exit, print_json
from wherry.cli.options import Json, StoreUrl, end

if TYPE_CHECKING:
    from wherry.store import EventRow

NAMED = {"tools.changed": "tools", "prompt.changed": "prompt", "model.changed": "model", "policy.changed": "policy"}


def changes(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="30m, 12h, 7d, 2w, or a date; else all.")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Of agents of this name.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Seen in this run.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The latest so many.")] = 100,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Show what changed in prompts, tools, models and policies, the oldest first, with a diff."""

    def body() -> Exit:
        from wherry.cli.history import find_run
        from wherry.cli.moments import moment
        from wherry.store import open_store

        kept = open_store()
        try:
            run_id = None if run is None else find_run(kept, run).run_id
            start = None if since is None else moment(since)
            found = kept.changes.events(since=start, agent=agent, run_id=run_id, limit=limit)
        finally:
            kept.close()
        if not found and not as_json:
            sys.stdout.write("no changes\n")
        for row in found:
            if as_json:
                print_json(_json(row))
            else:
                sys.stdout.write("".join(f"{line}\n" for line in told(row)))
        return Exit.DONE

    end(context, body, store=store, as_json=as_json)


def told(row: EventRow) -> Iterator[str]:
    """A change as lines for people."""
    from wherry.observe.visible import one_line, visible

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.time))
    payload = _payload(row)
    if payload is None:
        yield f"{when}  {one_line(row.agent)}: {NAMED[row.type]} changed (pruned)  run {row.run_id}"
        return
    where = f"in step {payload['step']} of" if payload.get("step") else "before"
    yield f"{when}  {one_line(row.agent)}: {summary(row.type, payload)}, {where} run {row.run_id}"
    for line in visible(str(payload.get("diff", ""))).splitlines():
        yield f"  {line}"


def summary(type: str, payload: dict[str, Any]) -> str:
    """What changed, in a few words: `tools changed pay; added look`."""
    from wherry.observe.visible import one_line

    if type != "tools.changed":
        return f"{NAMED[type]} changed"
    verbs = (("changed", "changed"), ("code", "new code of"), ("added", "added"), ("removed", "removed"))
    parts = [f"{words} {', '.join(map(str, payload[verb]))}" for verb, words in verbs if payload.get(verb)]
    return one_line(f"tools {'; '.join(parts)}", 500)


def _json(row: EventRow) -> dict[str, Any]:
    known = {"run_id": row.run_id, "agent": row.agent, "seq": row.seq, "time": row.time}
    return {"type": row.type, **known, "payload": _payload(row)}


def _payload(row: EventRow) -> dict[str, Any] | None:
    from wherry.messages import parse

    return None if row.pruned is not None else parse(row.body)
