"""`wherry mcp`: an agent, served to the clients of MCP."""

from __future__ import annotations

from typing import Annotated

import typer

from wherry.cli.ending import Exit, complain
from wherry.errors import WherryError


def mcp(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Where it is: module:name or file.py:name.")],
    model: Annotated[str | None, typer.Option("--model", help="Instead of the agent's own.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Where its runs are kept.")] = None,
    http: Annotated[
        int | None,
        typer.Option("--http", metavar="PORT", help="Serve streamable HTTP; without it: standard input and output."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Another address than this machine's own wants a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="WHERRY_MCP_TOKEN", help="What clients have to send as bearer token."),
    ] = None,
) -> None:
    """Serve an agent over MCP: a tool, by the agent's name, that takes a task."""
    from wherry.cli.loading import agent_from, keep_in
    from wherry.tools.mcp_server import serve_mcp

    try:
        served = agent_from(agent, model=model)
        keep_in(served, store)
        if http is None:
            serve_mcp(served)
        else:
            serve_mcp(served, transport="http", host=host, port=http, token=token)
    except WherryError as error:
        complain(str(error))
        raise typer.Exit(Exit.USAGE) from None
