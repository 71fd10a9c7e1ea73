"""`wherry chat`: a session over many runs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from wherry.cli.ending import Exit, complain, report
from wherry.cli.loading import Kind, agent_from, keep_in, plain_agent
from wherry.cli.running import Playing, check_model
from wherry.errors import ConfigurationError, WherryError
from wherry.observe.console import Console
from wherry.policy import Limits
from wherry.tools import as_text

PROMPT = "you> "


def converse(
    *,
    agent: str | None,
    model: str | None,
    kind: Kind,
    max_steps: int | None,
    limits: Limits | None,
    session: str | None,
    store: str | None,
) -> Exit:
    """Read a line, answer it, until the end of the input; `store` goes before the agent's own.

    Raises:
        ConfigurationError: there is no agent or no model to talk with.
    """
    worker = agent_from(agent, model=model) if agent else plain_agent(kind, model=model)
    check_model(worker)
    keep_in(worker, store)
    session = session or time.strftime("chat-%Y%m%d-%H%M%S")
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - its import gives input() line editing

    code = Exit.DONE
    # One event loop for all answers, so that clients keep their connections between them.
    with Console() as console, asyncio.Runner() as runner:
        console.note(f"session {session}; Ctrl-C stops an answer, Ctrl-D leaves")
        while True:
            try:
                task = input(PROMPT)
            except EOFError:
                break
            except KeyboardInterrupt:
                code = Exit.INTERRUPTED
                break
            if not task.strip():
                continue
            events = worker.astream(task, session=session, max_steps=max_steps, limits=limits)
            playing = Playing(worker, events)
            try:
                runner.run(_answer(playing, console))
            except ConfigurationError:
                raise
            except WherryError as error:
                report(error, as_json=False)
            except asyncio.CancelledError:
                pass  # stopped twice
            if console.broken:
                return Exit.CLOSED
            if playing.stopped is Exit.TERMINATED:
                code = Exit.TERMINATED
                break
        if console.costs.total.requests:
            console.summary()
    if sys.stdin.isatty():
        complain(f"\ngo on later: wherry chat --session {session}")
    worker.store.close()
    return code


async def _answer(playing: Playing, console: Console) -> None:
    try:
        ending = await playing.follow(console)
    finally:
        console.close()
    if ending.output is not None:
        console.answer(as_text(ending.output) + "\n")
