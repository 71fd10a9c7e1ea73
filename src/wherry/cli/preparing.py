"""`wherry models` and `wherry sandbox`: what is brought or made ready in advance."""

from __future__ import annotations

from typing import Annotated

import typer

from wherry.cli.ending import Exit
from wherry.cli.options import Json, end

models = typer.Typer(
    help="The embedded models: list them, bring one here.", no_args_is_help=True, rich_markup_mode=None
)
sandbox = typer.Typer(
    help="The sandbox: get packages and backends ready in advance.", no_args_is_help=True, rich_markup_mode=None
)


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

    end(context, body)


@sandbox.command("list")
def list_sandbox(context: typer.Context, as_json: Json = False) -> None:
    """List the package sets on this machine, newest first."""

    def body() -> Exit:
        from wherry.cli.sandboxing import print_sets

        return print_sets(as_json=as_json)

    end(context, body, as_json=as_json)


@models.command("list")
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List the embedded models: what they want, and which are here."""

    def body() -> Exit:
        from wherry.cli.embedded import list_embedded

        return list_embedded(as_json=as_json)

    end(context, body, as_json=as_json)


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

    end(context, body)


@models.command()
def path(context: typer.Context, name: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """Print where a model's file is; exit code 1 if it is not on this machine."""

    def body() -> Exit:
        from wherry.cli.embedded import print_path

        return print_path(name)

    end(context, body)
