"""The commands and their options. What they do is in the modules beside this one, loaded when called."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wherry.cli.ending import Exit, report, report_unexpected
from wherry.errors import WherryError

app = typer.Typer(
    name="wherry",
    help="Teams of AI agents that cannot outgrow their context, escape their sandbox, or lose their work.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 waiting for approval, 4 limit reached, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models = typer.Typer(
    help="The embedded models: list them, bring one here.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(models, name="models")
sandbox = typer.Typer(
    help="The sandbox: get packages and backends ready in advance.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(sandbox, name="sandbox")


class AgentKind(StrEnum):
    """The two kinds of agent."""

    CODE = "code"
    TOOLS = "tools"


Agent = Annotated[
    str | None,
    typer.Option("--agent", metavar="FILE.py:NAME|MODULE:NAME", help="An agent, or a function that makes one."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="local, local:NAME, local:FILE.gguf, openai/NAME, ollama/NAME, http://HOST:PORT/v1#NAME, PROVIDER/NAME "
        "(LiteLLM). Without it: the agent's own, else local.",
    ),
]
Kind = Annotated[AgentKind, typer.Option("--kind", help="The kind of agent, where --agent names none.")]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", min=1, metavar="N", help="Most model calls of a run; then one last word.")
]
LimitOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="The most that a run may spend, over all its agents: usd, requests, input_tokens, output_tokens, "
        "tool_calls, seconds. May be given several times; exit code 4 when one is reached.",
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="WHERRY_STORE",
        help="Where runs are kept: sqlite:///PATH or memory://. Without it: the user's data folder.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON object a line.")]


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
            store=_named(context, store),
            output="json" if as_json else "answer" if quiet else "live",
        )

    _end(context, body, store=store, as_json=as_json)


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
            store=_named(context, store),
        )

    _end(context, body, store=store)


@app.command()
def runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, newest first.")] = 20,
    session: Annotated[str | None, typer.Option("--session", metavar="NAME", help="Of this conversation only.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also the runs that agents started.")] = False,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """List the runs in the store, newest first."""

    def body() -> Exit:
        from wherry.cli.history import list_runs

        return list_runs(limit=limit, session=session, children=every, as_json=as_json)

    _end(context, body, store=store, as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")],
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Show a run again, as it was shown when it happened."""

    def body() -> Exit:
        from wherry.cli.history import show_run

        return show_run(run_id, as_json=as_json)

    _end(context, body, store=store, as_json=as_json)


@app.command()
def cost(
    context: typer.Context,
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of it.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Of all runs since: 12h, 7d, 2w, or a date.")
    ] = None,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Show who spent what: by agent, by model, by tool."""

    def body() -> Exit:
        from wherry.cli.costing import print_cost

        return print_cost(run_id, since=since, as_json=as_json)

    _end(context, body, store=store, as_json=as_json)


@app.command()
def doctor(
    context: typer.Context,
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of it. Without it: this machine."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", dir_okay=False, help="Write it as one page instead.")
    ] = None,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Show what this machine can do for a sandbox; or of a run, what made its context grow."""

    def body() -> Exit:
        if run_id is None:
            from wherry.cli.doctoring import print_machine

            return print_machine(as_json=as_json)
        from wherry.cli.examining import examine

        return examine(run_id, html=html, as_json=as_json)

    _end(context, body, store=store, as_json=as_json)


@app.command()
def diagnose(
    context: typer.Context,
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run whose last, or failed, request is tried in pieces."),
    ] = None,
    model: Model = None,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Ask a live model more and more, and say where it first fails; exit code 1 if it does. Costs real requests."""

    def body() -> Exit:
        from wherry.cli.diagnosing import print_diagnosis

        return print_diagnosis(model, run=run_id, as_json=as_json)

    _end(context, body, store=store, as_json=as_json)


@app.command()
def fit(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A GGUF file, a folder with config.json, or an embedded model's name."),
    ],
    ctx: Annotated[int, typer.Option("--ctx", min=1, metavar="TOKENS", help="Of one request, reply included.")] = 8192,
    parallel: Annotated[int, typer.Option("--parallel", min=1, metavar="N", help="Requests at the same time.")] = 1,
    cache_type: Annotated[str, typer.Option("--cache-type", metavar="TYPE", help="f16, q8_0, q4_0, ...")] = "f16",
    as_json: Json = False,
) -> None:
    """Say how much memory a model takes and whether this machine has it; exit code 1 if not. Loads nothing."""

    def body() -> Exit:
        from wherry.cli.fitting import print_fit
        from wherry.doctor.need import Setting

        return print_fit(model, Setting(ctx, slots=parallel, cache_type=cache_type), as_json=as_json)

    _end(context, body, as_json=as_json)


@sandbox.command("prepare")
def prepare_sandbox(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Packages (numpy, 'pandas>=2'), wasm, docker, docker:IMAGE."),
    ] = None,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take today's versions of the packages.")] = False,
) -> None:
    """Get ready in advance what would else be made when it is first needed. Without names: try the sandbox."""

    def body() -> Exit:
        from wherry.cli.sandboxing import prepare

        return prepare(names or [], upgrade=upgrade)

    _end(context, body)


@sandbox.command("list")
def list_sandbox(context: typer.Context, as_json: Json = False) -> None:
    """List the package sets on this machine, newest first."""

    def body() -> Exit:
        from wherry.cli.sandboxing import print_sets

        return print_sets(as_json=as_json)

    _end(context, body, as_json=as_json)


@models.command("list")
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List the embedded models: what they want, and which are here."""

    def body() -> Exit:
        from wherry.cli.embedded import list_embedded

        return list_embedded(as_json=as_json)

    _end(context, body, as_json=as_json)


@models.command()
def pull(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Without it: the best for this machine's free memory.")
    ] = None,
) -> None:
    """Bring a model onto this machine; stopped in the middle, the next call goes on there."""

    def body() -> Exit:
        from wherry.cli.embedded import pull_embedded

        return pull_embedded(name)

    _end(context, body)


@models.command()
def path(context: typer.Context, name: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """Print where a model's file is; exit code 1 if it is not on this machine."""

    def body() -> Exit:
        from wherry.cli.embedded import print_path

        return print_path(name)

    _end(context, body)


def start() -> None:
    """Read the command line, do what it says, end the process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character gets a question mark, not the end of the program.
            stream.reconfigure(errors="replace")  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
    app()


def _named(context: typer.Context, store: str | None) -> str | None:
    """The store that `--store` names; the one of the environment is a default, which an agent's own goes before."""
    source = context.get_parameter_source("store")
    return store if source is not None and source.name == "COMMANDLINE" else None


def _end(context: typer.Context, body: Callable[[], Exit], *, store: str | None = None, as_json: bool = False) -> None:
    """Do a command and end the process with its exit code; whatever goes wrong is told without a traceback."""
    if store is not None:
        # The process is the command's own: agents and tools that a file brings find the store where they look anyway.
        os.environ["WHERRY_STORE"] = store
    try:
        code = _told(body, as_json=as_json, debug=bool(context.obj))
        sys.stdout.flush()
    except BrokenPipeError:
        code = Exit.CLOSED
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    if code is Exit.CLOSED:
        # Python flushes standard output once more at its end; there is nobody left to read it.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(code)


def _told(body: Callable[[], Exit], *, as_json: bool, debug: bool) -> Exit:
    try:
        return body()
    except WherryError as error:
        return report(error, as_json=as_json)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line before the user
        return report_unexpected(error, as_json=as_json, debug=debug)


from wherry.cli import audit  # noqa: E402, F401  # pyright: ignore[reportUnusedImport] - its commands need what is above
