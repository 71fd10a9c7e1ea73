"""The command line. What commands do is in the modules beside this one, loaded when they are called."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wherry.cli import approving, audit, changing, guarding, inspecting, mcp_serving, noting, preparing
from wherry.cli.ending import Exit
from wherry.cli.options import (
    Agent,
    AgentKind,
    Json,
    Kind,
    LimitOptions,
    MaxSteps,
    Model,
    StoreUrl,
    View,
    end,
    named,
)
from wherry.errors import ConfigurationError

app = typer.Typer(
    name="wherry",
    help="Teams of AI agents that cannot outgrow their context, escape their sandbox, or lose their work.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 waiting for approval, 4 limit reached, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    context.obj = debug
    if version:
        from wherry import __version__

        typer.echo(f"wherry {__version__}")
        raise typer.Exit


@app.command()
def run(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to do; - reads it from standard input.")],
    agent: Agent = None,
    model: Model = None,
    kind: Kind = AgentKind.CODE,
    max_steps: MaxSteps = None,
    limit: LimitOptions = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="NAME", help="A conversation that goes on over many runs.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer and nothing else.")] = False,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Give an agent a task; show what happens, then the answer, the cost and the run's id."""

    def body() -> Exit:
        from wherry.cli.limiting import limits_from
        from wherry.cli.running import run_task

        return run_task(
            sys.stdin.read() if task == "-" else task,
            agent=agent,
            model=model,
            kind=kind.value,
            max_steps=max_steps,
            limits=limits_from(limit or ()),
            session=session,
            store=named(context, store),
            output="json" if as_json else "answer" if quiet else "live",
        )

    end(context, body, store=store, as_json=as_json)


@app.command()
def resume(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")],
    agent: Agent = None,
    model: Model = None,
    max_steps: MaxSteps = None,
    limit: LimitOptions = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer and nothing else.")] = False,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Go on with a run where it stands: after a crash, a limit, an interruption, or when somebody has decided.

    Its agent is made as `wherry run` made it; --agent and --model say otherwise. With --limit or --max-steps it has
    other bounds than before, counted from its beginning.
    """

    def body() -> Exit:
        from wherry.cli.limiting import limits_from
        from wherry.cli.resuming import resume_run

        return resume_run(
            run,
            agent=agent,
            model=model,
            max_steps=max_steps,
            limits=limits_from(limit or ()),
            store=named(context, store),
            output="json" if as_json else "answer" if quiet else "live",
        )

    end(context, body, store=store, as_json=as_json)


@app.command()
def chat(
    context: typer.Context,
    agent: Agent = None,
    model: Model = None,
    kind: Kind = AgentKind.CODE,
    max_steps: MaxSteps = None,
    limit: LimitOptions = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="NAME", help="The conversation to go on with; else a new one.")
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Talk with an agent. Ctrl-C stops an answer, a second one leaves; so does Ctrl-D."""

    def body() -> Exit:
        from wherry.cli.chatting import converse
        from wherry.cli.limiting import limits_from

        return converse(
            agent=agent,
            model=model,
            kind=kind.value,
            max_steps=max_steps,
            limits=limits_from(limit or ()),
            session=session,
            store=named(context, store),
        )

    end(context, body, store=store)


@app.command()
def runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, newest first.")] = 20,
    session: Annotated[str | None, typer.Option("--session", metavar="NAME", help="Of this conversation only.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also the runs that agents started.")] = False,
    status: Annotated[
        str | None,
        typer.Option(
            "--status", metavar="STATUS", help="running, completed, max_steps, limit, waiting, cancelled or failed."
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Of an agent of that name, whoever started it.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="That a model of that name did.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Begun since: 12h, 7d, 2w ago, or a date.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Begun before.")] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="RUN", help="Those that this run started itself.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search", metavar="TEXT", help="In which these words were said: by task, messages, results or answer."
        ),
    ] = None,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """List the runs in the store, newest first; with --search, those that speak most of the words first."""

    def body() -> Exit:
        from wherry.cli.history import list_runs
        from wherry.cli.moments import moment
        from wherry.journal.finding import RunFilter

        wanted = RunFilter(
            session=session,
            status=status,
            agent=agent,
            model=model,
            since=None if since is None else moment(since),
            before=None if until is None else moment(until),
            parent=parent,
            children=every or agent is not None,
        )
        return list_runs(wanted, limit=limit, search=search, as_json=as_json)

    end(context, body, store=store, as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")],
    request: Annotated[
        int | None, typer.Option("--request", min=1, metavar="N", help="What the model saw in its N-th request.")
    ] = None,
    view: Annotated[
        View | None,
        typer.Option(
            "--view", help="One side of it: the answer, the code as a script, the calls, the requests, the runs below."
        ),
    ] = None,
    record: Annotated[
        int | None, typer.Option("--record", min=1, metavar="N", help="All of its N-th record, as JSON.")
    ] = None,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Show a run again, as it was shown when it happened."""

    def body() -> Exit:
        if sum(option is not None for option in (request, view, record)) > 1:
            raise ConfigurationError("--request, --view and --record are one thing each", hint="give one of them")
        if view is not None:
            from wherry.cli.viewing import show_view

            return show_view(run_id, view, as_json=as_json)
        if record is not None:
            from wherry.cli.viewing import show_record

            return show_record(run_id, record, as_json=as_json)
        if request is not None:
            from wherry.cli.requests import show_request

            return show_request(run_id, request, as_json=as_json)
        from wherry.cli.history import show_run

        return show_run(run_id, as_json=as_json)

    end(context, body, store=store, as_json=as_json)


for command in (approving.approvals, approving.approve, approving.deny, changing.changes):
    app.command()(command)
app.command()(mcp_serving.mcp)
for command in (guarding.guard, inspecting.cost, inspecting.doctor, inspecting.diagnose, inspecting.fit, audit.prune):
    app.command()(command)
app.add_typer(audit.audit, name="audit")
app.add_typer(noting.memo, name="memo")
app.add_typer(preparing.models, name="models")
app.add_typer(preparing.sandbox, name="sandbox")


def start() -> None:
    """Read the command line, do what it says, end the process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character gets a question mark, not the end of the program.
            stream.reconfigure(errors="replace")  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
    app()
