"""`wherry audit` and `wherry prune`: what the journal proves, for others to check, and what of it need not be kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wherry.cli.ending import Exit, print_json
from wherry.cli.moments import age
from wherry.cli.options import Json, StoreUrl, end
from wherry.errors import ConfigurationError

if TYPE_CHECKING:
    from wherry.store import RunRow

audit = typer.Typer(
    help="Prove that nobody changed the journal; give it to others to check.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of it; else all.")]


@audit.command()
def verify(
    context: typer.Context,
    run: Run = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="HEAD", help="A head that `audit head` printed and you kept.")
    ] = None,
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="Read the large values, too, that records name, and check them.")
    ] = False,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Check the journal: changed, missing, swapped and added records, missing runs; exit code 1 if there are any."""

    def body() -> Exit:
        return _verify(run, since, artifacts=artifacts, as_json=as_json)

    end(context, body, store=store, as_json=as_json)


@audit.command()
def head(context: typer.Context, store: StoreUrl = None) -> None:
    """Print where the chain of all runs stands. Kept elsewhere, it proves later that nothing before it is gone."""

    def body() -> Exit:
        from wherry.journal import head as head_of
        from wherry.store import open_store

        opened = open_store()
        try:
            sys.stdout.write(f"{head_of(opened)}\n")
        finally:
            opened.close()
        return Exit.DONE

    end(context, body, store=store)


@audit.command()
def export(
    context: typer.Context,
    run: Run = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Else standard output.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", dir_okay=False, help="Sign with this key; made if it is not there."),
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Write the journal as JSON Lines that others can check without wherry; docs/audit.md has the script that does."""

    def body() -> Exit:
        return _export(run, output, key)

    end(context, body, store=store)


def prune(
    context: typer.Context,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="What began longer ago: 12h, 90d, 26w.")
    ] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="NAME", help="Of this conversation only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which runs it would be, and do nothing.")] = False,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Remove what was said in old runs, and keep the proof that they were; the journal still verifies."""

    def body() -> Exit:
        return _prune(older_than, session, dry_run=dry_run, as_json=as_json)

    end(context, body, store=store, as_json=as_json)


def _verify(beginning: str | None, since: str | None, *, artifacts: bool, as_json: bool) -> Exit:
    from wherry.cli.history import find_run
    from wherry.journal import Break, Head, Report, verify_store
    from wherry.journal import verify as verify_run
    from wherry.journal.artifacts import broken_artifact
    from wherry.store import open_store

    try:
        kept = None if since is None else Head.parse(since)
    except ValueError as error:
        raise ConfigurationError(str(error), hint="`wherry audit head` prints one") from error
    opened = open_store()
    try:
        if beginning is None:
            report = verify_store(opened, since=kept, artifacts=artifacts)
        else:
            run_id = find_run(opened, beginning).run_id
            broken = verify_run(opened, run_id)
            if broken is None and artifacts:
                broken = broken_artifact(opened, run_id)
            records = sum(1 for _ in opened.events(run_id))
            report = Report(runs=1, records=records, breaks=list[Break]() if broken is None else [broken])
    finally:
        opened.close()
    for broken in report.breaks:
        if as_json:
            print_json({"type": "break", "run_id": broken.run_id, "seq": broken.seq, "reason": broken.reason})
        else:
            where = f"run {broken.run_id}" if broken.run_id else "the chain of all runs"
            sys.stdout.write(f"{where}: {broken.reason}\n")
    if as_json:
        counts = {"runs": report.runs, "records": report.records, "anchors": report.anchors, "pruned": report.pruned}
        print_json({"type": "report", **counts, "breaks": len(report.breaks)})
    else:
        found = "nothing was changed" if not report.breaks else f"{len(report.breaks)} broken"
        pruned = f", {report.pruned} of them pruned" if report.pruned else ""
        sys.stdout.write(f"{report.runs:,} runs{pruned}, {report.records:,} records: {found}\n")
    return Exit.FAILED if report.breaks else Exit.DONE


def _export(beginning: str | None, output: Path | None, key_file: Path | None) -> Exit:
    from wherry.cli.history import find_run
    from wherry.journal.export import export as lines_of
    from wherry.journal.signing import SigningKey
    from wherry.store import open_store

    key = None
    if key_file is not None:
        key = SigningKey.load(key_file) if key_file.exists() else SigningKey.create(key_file)
        sys.stderr.write(f"signed by {key.public}\n")
    opened = open_store()
    try:
        chosen = None if beginning is None else _tree(find_run(opened, beginning).run_id, opened.runs)
        if output is None:
            for line in lines_of(opened, run_ids=chosen, key=key):
                sys.stdout.write(line.decode("ascii"))
            return Exit.DONE
        try:
            with output.open("wb") as file:
                file.writelines(lines_of(opened, run_ids=chosen, key=key))
        except OSError as error:
            raise ConfigurationError(f"{str(output)!r} cannot be written: {error.strerror}") from error
    finally:
        opened.close()
    return Exit.DONE


def _tree(run_id: str, runs: Callable[..., list[RunRow]]) -> list[str]:
    """A run and all runs below it."""
    found = [run_id]
    for name in found:
        found += [row.run_id for row in runs(parent=name, limit=1 << 31)]
    return found


def _prune(older_than: str | None, session: str | None, *, dry_run: bool, as_json: bool) -> Exit:
    from wherry.journal.retention import prune as prune_store
    from wherry.store import open_store

    before = None if older_than is None else time.time() - age(older_than)
    if before is None and session is None:
        raise ConfigurationError(
            "prune needs --older-than, --session or both", hint="`wherry prune --older-than 90d`, say"
        )
    opened = open_store()
    try:
        done = prune_store(opened, before=before, session=session, dry_run=dry_run)
    finally:
        opened.close()
    if as_json:
        for run_id in done.runs:
            print_json({"type": "pruned", "run_id": run_id})
        for broken in done.kept:
            print_json({"type": "kept", "run_id": broken.run_id, "seq": broken.seq, "reason": broken.reason})
        return Exit.FAILED if done.kept else Exit.DONE
    for broken in done.kept:
        sys.stdout.write(f"run {broken.run_id} is left as it is: {broken.reason}\n")
    if dry_run:
        sys.stdout.write("".join(f"{run_id}\n" for run_id in done.runs))
        sys.stdout.write(f"{len(done.runs):,} runs would be pruned\n")
    else:
        sys.stdout.write(f"{len(done.runs):,} runs pruned, {done.bytes:,} bytes removed\n")
    return Exit.FAILED if done.kept else Exit.DONE
