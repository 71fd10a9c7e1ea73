"""`wherry approvals`, `wherry approve` and `wherry deny`: what waits for a person, and the person's word."""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from wherry.cli.ending import Exit, print_json
from wherry.cli.options import Json, StoreUrl, end
from wherry.errors import ConfigurationError

if TYPE_CHECKING:
    from wherry.policy.approvals import Approval, Decision

ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="An approval's id, or the beginning of it.")]
MOST_SHOWN = 10_000
"""Questions that are listed."""
ARGUMENT_CHARS = 2_000
"""Characters of one argument that are shown: who decides should see what is decided."""


def approvals(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Of this run and all below it; else of all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that were decided.")] = False,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Show what waits for a person's word, and which commands decide."""

    def body() -> Exit:
        from wherry.cli.history import find_run
        from wherry.policy.approvals import asked
        from wherry.store import open_store

        kept = open_store()
        try:
            root = None if run is None else find_run(kept, run).run_id
            found = asked(kept, run_id=root, pending=None if every else True, limit=MOST_SHOWN)
        finally:
            kept.close()
        if as_json:
            for approval in found:
                print_json(approval_json(approval))
            return Exit.DONE
        if not found:
            sys.stdout.write("nothing waits for approval\n")
        for approval in found:
            sys.stdout.write("".join(f"{line}\n" for line in told(approval)))
        return Exit.DONE

    end(context, body, store=store, as_json=as_json)


def approve(
    context: typer.Context,
    id: ApprovalId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the records.")] = "",
    arguments: Annotated[
        str | None,
        typer.Option("--arguments", metavar="JSON", help="Make the call with these instead: an object."),
    ] = None,
    result: Annotated[
        str | None,
        typer.Option(
            "--result", metavar="JSON", help="Of a call that nobody knows the end of: it was made and gave this."
        ),
    ] = None,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Let a call be made. The run goes on with `wherry resume`."""

    def body() -> Exit:
        from wherry.policy.approvals import UNSET, Decision

        given = _object("--arguments", arguments)
        gave = UNSET if result is None else _value("--result", result)
        return _decide(id, Decision(True, reason=reason, by=_person(), arguments=given, result=gave), as_json=as_json)

    end(context, body, store=store, as_json=as_json)


def deny(
    context: typer.Context,
    id: ApprovalId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the model is told.")] = "",
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Refuse a call; the model is told, and the run goes on with `wherry resume`."""

    def body() -> Exit:
        from wherry.policy.approvals import Decision

        return _decide(id, Decision(False, reason=reason, by=_person()), as_json=as_json)

    end(context, body, store=store, as_json=as_json)


def approval_json(approval: Approval) -> dict[str, Any]:
    """An approval as `--json` prints it."""
    return {"type": "approval", "waits": approval.decision is None, **approval.to_json()}


def told(approval: Approval) -> Iterator[str]:
    """What waits, in full, and the commands that decide."""
    from wherry.observe.visible import one_line, visible

    arguments = ", ".join(f"{name}={_shown(value)}" for name, value in approval.arguments.items())
    yield f"{approval.id}  {one_line(approval.agent)} wants {one_line(approval.name)}({one_line(arguments, 20_000)})"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(approval.created))
    yield f"  run {approval.root_run_id}, asked {when}: {one_line(approval.why, 500)}"
    for line in visible(approval.diff).splitlines():
        yield f"  | {line}"
    decision = approval.decision
    if decision is None:
        yield f"  wherry approve {approval.id}    wherry deny {approval.id} --reason '...'"
        return
    word = "approved" if decision.approved else "denied"
    by, reason = f" by {decision.by}" if decision.by else "", f": {decision.reason}" if decision.reason else ""
    given = "" if decision.arguments is None else f" with {_shown(dict(decision.arguments))}"
    yield f"  {one_line(f'{word}{by}{given}{reason}', ARGUMENT_CHARS)}"


def _decide(id: str, decision: Decision, *, as_json: bool) -> Exit:
    from wherry.policy.approvals import decide, waiting
    from wherry.store import open_store

    store = open_store()
    try:
        approval = decide(store, id, decision)
        rest = waiting(store, run_id=approval.root_run_id)
    finally:
        store.close()
    if as_json:
        print_json(approval_json(approval))
        return Exit.DONE
    sys.stdout.write(f"{approval.id}: {'approved' if decision.approved else 'denied'}\n")
    if rest:
        more = f"{len(rest)} more {'waits' if len(rest) == 1 else 'wait'} in that run"
        sys.stdout.write(f"{more}: wherry approvals {approval.root_run_id}\n")
    else:
        sys.stdout.write(f"the run goes on with: wherry resume {approval.root_run_id}\n")
    return Exit.DONE


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= ARGUMENT_CHARS else f"{text[:ARGUMENT_CHARS]}… ({len(text):,} characters)"


def _object(option: str, text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    value = _value(option, text)
    if not isinstance(value, dict):
        raise ConfigurationError(f"{option} is no object", hint="""--arguments '{"amount": 5}'""")
    return cast("dict[str, Any]", value)


def _value(option: str, text: str) -> object:
    try:
        value = cast("object", json.loads(text, object_pairs_hook=_once))
        json.dumps(value, allow_nan=False)  # Python reads NaN, which is no JSON and no amount
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{option} is no JSON: {error}") from error
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys are there once: which of two amounts was meant, nobody knows."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _person() -> str:
    """Who sits at this machine, as far as it knows."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
