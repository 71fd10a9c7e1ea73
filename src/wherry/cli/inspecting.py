"""`wherry cost`, `doctor`, `diagnose`, `fit`: what runs took, what is wrong, what would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wherry.cli.ending import Exit
from wherry.cli.options import Json, Model, StoreUrl, end


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

    end(context, body, store=store, as_json=as_json)


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

    end(context, body, store=store, as_json=as_json)


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

    end(context, body, store=store, as_json=as_json)


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

    end(context, body, as_json=as_json)
