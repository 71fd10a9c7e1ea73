"""`wherry memo`: the notes that agents keep, for a person to read and to change."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from wherry.cli.ending import Exit, print_json
from wherry.cli.moments import age
from wherry.cli.options import Json, StoreUrl, end
from wherry.errors import StoreConflict, StoreError

if TYPE_CHECKING:
    from wherry.messages import JSON
    from wherry.store import Memo

memo = typer.Typer(
    help="Read and change the notes that agents keep. A value is JSON, or else text.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The note's name.")]
Scope = Annotated[
    str,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="shared, agent:NAME, session:NAME, run:ID, or another that `wherry memo scopes` shows.",
    ),
]
MemoUrl = Annotated[
    str | None,
    typer.Option(
        "--memo", metavar="URL", envvar="WHERRY_MEMO", help="Where the notes are, if not in the store: redis://..."
    ),
]


@memo.command("list")
def list_notes(
    context: typer.Context,
    scope: Scope = "shared",
    as_json: Json = False,
    store: StoreUrl = None,
    url: MemoUrl = None,
) -> None:
    """Show all notes of a scope."""

    def body(notes: Memo) -> Exit:
        for key, value in notes.list(scope).items():
            if as_json:
                print_json({"scope": scope, "key": key, "value": value})
            else:
                _print_line(key, value)
        return Exit.DONE

    _end(context, body, store=store, url=url, as_json=as_json)


@memo.command()
def scopes(context: typer.Context, as_json: Json = False, store: StoreUrl = None, url: MemoUrl = None) -> None:
    """Show the scopes that have notes."""

    def body(notes: Memo) -> Exit:
        from wherry.observe.visible import visible

        for name in notes.scopes():
            if as_json:
                print_json({"scope": name})
            else:
                sys.stdout.write(f"{visible(name)}\n")
        return Exit.DONE

    _end(context, body, store=store, url=url, as_json=as_json)


@memo.command()
def get(
    context: typer.Context,
    key: Key,
    scope: Scope = "shared",
    as_json: Json = False,
    store: StoreUrl = None,
    url: MemoUrl = None,
) -> None:
    """Print a note; exit code 1 if there is none."""

    def body(notes: Memo) -> Exit:
        value = notes.get(scope, key)
        if value is None:
            raise StoreError(f"the scope {scope!r} has no note {key!r}", hint="`wherry memo list` shows them")
        if as_json:
            print_json({"scope": scope, "key": key, "value": value})
        else:
            sys.stdout.write(f"{_shown(value)}\n")
        return Exit.DONE

    _end(context, body, store=store, url=url, as_json=as_json)


@memo.command("set")
def set_note(
    context: typer.Context,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON, else text; - reads it from standard input.")],
    scope: Scope = "shared",
    ttl: Annotated[str | None, typer.Option("--ttl", metavar="AGE", help="Gone after so long: 30m, 12h, 7d.")] = None,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="VALUE", help="Only if it is this now; null: only if there is none."),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="The value is text, whatever it looks like.")] = False,
    store: StoreUrl = None,
    url: MemoUrl = None,
) -> None:
    """Keep a note, in place of the one before; exit code 1 if it is not what --expect says."""

    def body(notes: Memo) -> Exit:
        said = sys.stdin.read() if value == "-" else value
        note = said if text else _parsed(said)
        seconds = None if ttl is None else age(ttl)
        try:
            if expect is None:
                notes.set(scope, key, note, ttl=seconds)
            elif not notes.compare_and_set(scope, key, expected=_parsed(expect), value=note, ttl=seconds):
                raise StoreConflict(f"nothing was changed: the note {key!r} is {_shown(notes.get(scope, key))}")
        except ValueError as error:  # too large
            raise StoreError(str(error)) from error
        return Exit.DONE

    _end(context, body, store=store, url=url)


@memo.command()
def delete(
    context: typer.Context, key: Key, scope: Scope = "shared", store: StoreUrl = None, url: MemoUrl = None
) -> None:
    """Remove a note; exit code 1 if there is none."""

    def body(notes: Memo) -> Exit:
        if not notes.delete(scope, key):
            raise StoreError(f"the scope {scope!r} has no note {key!r}", hint="`wherry memo list` shows them")
        return Exit.DONE

    _end(context, body, store=store, url=url)


def _end(
    context: typer.Context,
    body: Callable[[Memo], Exit],
    *,
    store: str | None,
    url: str | None,
    as_json: bool = False,
) -> None:
    """Do something with the notes and end the process."""

    def opened() -> Exit:
        from wherry.store import open_store

        kept = open_store("memory://" if url is not None else os.environ.get("WHERRY_STORE"), memo=url)
        try:
            return body(kept.memo)
        finally:
            kept.close()

    end(context, opened, store=store, as_json=as_json)


def _parsed(text: str) -> JSON:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shown(value: JSON) -> str:
    from wherry.observe.visible import visible

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(text) if sys.stdout.isatty() else text


def _print_line(key: str, value: JSON) -> None:
    from wherry.observe.visible import one_line, visible

    sys.stdout.write(f"{visible(key)}: {one_line(json.dumps(value, ensure_ascii=False), 200)}\n")
