"""`wherry guard`: the context bound for programs in any language, as a proxy before their model's server."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wherry.cli.ending import Exit, complain, print_json
from wherry.cli.options import Json, StoreUrl, end

if TYPE_CHECKING:
    from wherry.guard.proxy import Proxy, ProxySettings, UpstreamSpec


def guard(
    context: typer.Context,
    upstream: Annotated[
        list[str],
        typer.Option(
            "--upstream",
            metavar="URL[#MODEL]",
            help="The server to ask, up to and with /v1; several: the next is asked when one fails.",
        ),
    ],
    window: Annotated[
        int | None,
        typer.Option(
            "--window", metavar="TOKENS", help="Context length of a request. Without it: what the server says."
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Where to listen; 0: any free port.")] = 8788,
    host: Annotated[
        str, typer.Option("--host", help="Another address than this machine's own wants a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TOKEN", envvar="WHERRY_GUARD_TOKEN", help="What clients have to show, as their API key."
        ),
    ] = None,
    upstream_key: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream-key",
            metavar="VARIABLE",
            help="The environment variable with the key for an upstream, in their order; - for none. Without it: "
            "clients' own keys are passed on.",
        ),
    ] = None,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--keys", metavar="FILE", help="Clients' keys and limits, as TOML; others are not let in."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="NAME=VALUE",
            help="The most that a key may spend in a day: usd, requests, input_tokens, output_tokens.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Put conversations so that servers with strict chat templates take them.")
    ] = False,
    body_limit: Annotated[
        int, typer.Option("--body-limit", min=1_000, metavar="BYTES", help="Most bytes of a request.")
    ] = 32_000_000,
    grace: Annotated[
        float, typer.Option("--grace", min=0, metavar="SECONDS", help="That replies get to finish at the end.")
    ] = 30.0,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Whether requests and replies are kept in the store.")
    ] = True,
    as_json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Listen as an OpenAI-compatible server, and pass on what fits the model's context. Ctrl-C ends it."""

    def body() -> Exit:
        from wherry.cli.limiting import limits_from
        from wherry.guard.proxy import ProxySettings
        from wherry.models.api_key import ApiKey
        from wherry.policy import Limits

        settings = ProxySettings(
            _upstreams(upstream, upstream_key or []),
            window=window,
            host=host,
            port=port,
            token=None if token is None else ApiKey(token, "--token"),
            keys=tuple(keys or ()),
            limits=limits_from(limit or ()) or Limits(),
            strict=strict,
            record=record,
            body_limit=body_limit,
            grace_seconds=grace,
        )
        import asyncio  # not for every command's help

        return asyncio.run(_serve(settings, as_json=as_json))

    end(context, body, store=store, as_json=as_json)


def _upstreams(urls: list[str], variables: list[str]) -> tuple[UpstreamSpec, ...]:
    from wherry.errors import ConfigurationError
    from wherry.guard.proxy import UpstreamSpec
    from wherry.models.api_key import ApiKey

    if len(variables) > len(urls):
        raise ConfigurationError("there are more --upstream-key than --upstream", hint="- stands for none")
    specs: list[UpstreamSpec] = []
    for number, url in enumerate(urls):
        variable = variables[number] if number < len(variables) else "-"
        value = None if variable == "-" else os.environ.get(variable, "").strip()
        if value == "":
            raise ConfigurationError(
                f"the environment has no {variable}", hint="--upstream-key takes a variable's name"
            )
        specs.append(UpstreamSpec.parse(url, None if value is None else ApiKey(value, variable)))
    return tuple(specs)


async def _serve(settings: ProxySettings, *, as_json: bool) -> Exit:
    from wherry.guard.proxy import running
    from wherry.store import open_store

    store = open_store() if settings.record else None
    import asyncio

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopped(number: signal.Signals) -> None:
        if stop.is_set():  # a second time: do not wait for anybody
            os._exit(Exit.INTERRUPTED if number is signal.SIGINT else Exit.TERMINATED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped, number)
    try:
        async with running(settings, store=store) as proxy:
            await _greet(proxy, as_json=as_json)
            await stop.wait()
            if not as_json:
                complain(f"ending; replies under way get {settings.grace_seconds:g} s (Ctrl-C again: none)")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        if store is not None:
            store.close()
    return Exit.DONE


async def _greet(proxy: Proxy, *, as_json: bool) -> None:
    """What it listens on, what it asks, how much fits there, and how to point a client at it."""
    import asyncio

    places = await asyncio.gather(*(upstream.first_place() for upstream in proxy.upstreams))
    if as_json:
        print_json(
            {
                "type": "listening",
                "url": proxy.url,
                "upstreams": [
                    {
                        "url": upstream.url,
                        "model": None if place is None else place.known_as,
                        "window": None if place is None else place.window,
                        "discovered": place is not None and place.discovered,
                    }
                    for upstream, place in zip(proxy.upstreams, places, strict=True)
                ],
            }
        )
        return
    settings = proxy.settings
    lines = [f"wherry guard listens on {proxy.url}"]
    for upstream, place in zip(proxy.upstreams, places, strict=True):
        if place is None:
            what = f"window {settings.window:,}" if settings.window else "window: asked per model"
        else:
            whose = "as it says" if place.discovered and settings.window != place.window else "as you say"
            if not place.discovered and settings.window is None:
                whose = "assumed: it does not say; --window sets it"
            what = f"{place.known_as}, window {place.window:,} tokens ({whose})"
        lines.append(f"  upstream {upstream.url}: {what}")
        if not await upstream.healthy(0):
            lines.append("    it does not answer now; requests will be tried all the same")
    who = "the token" if settings.token else "a key of the files" if settings.keys else "their own keys, or none"
    lines += [
        f"  clients show {who}; "
        + ("each key has a run a day in the store" if settings.record else "nothing is recorded"),
        "  point a client at it:",
        f"    export OPENAI_BASE_URL={proxy.url}",
        f"    export ANTHROPIC_BASE_URL={proxy.url.removesuffix('/v1')}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
