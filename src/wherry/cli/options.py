"""What commands have in common: their options, and how each is done and the process ended."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from wherry.cli.ending import Exit, report, report_unexpected
from wherry.errors import WherryError


class AgentKind(StrEnum):
    """The two kinds of agent."""

    CODE = "code"
    TOOLS = "tools"


class View(StrEnum):
    """What of a run is shown."""

    ANSWER = "answer"
    CODE = "code"
    CALLS = "calls"
    REQUESTS = "requests"
    TREE = "tree"


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


def named(context: typer.Context, store: str | None) -> str | None:
    """The store that `--store` names; the one of the environment is a default, which an agent's own goes before."""
    source = context.get_parameter_source("store")
    return store if source is not None and source.name == "COMMANDLINE" else None


def end(context: typer.Context, body: Callable[[], Exit], *, store: str | None = None, as_json: bool = False) -> None:
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
