"""`wherry doctor RUN`: what made a run's context grow."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wherry.cli.ending import Exit, complain, print_json
from wherry.cli.history import find_run
from wherry.doctor.curve import PARTS, drawn, page
from wherry.doctor.growth import Growth, growth
from wherry.errors import ConfigurationError
from wherry.observe.costs import aligned
from wherry.observe.visible import one_line, visible
from wherry.store import open_store

SHOWN = 40
"""Requests that are listed one by one; of a longer run the first, the last and the largest are."""


def examine(run: str, *, html: Path | None, as_json: bool) -> Exit:
    """Print, or write as a page, what the requests of a run were made of.

    Raises:
        RunNotFound: no run's id begins like that, or several do.
        ConfigurationError: the page cannot be written there.
    """
    store = open_store()
    try:
        found = growth(store, find_run(store, run).run_id)
    finally:
        store.close()
    if html is not None:
        try:
            html.write_text(page(found), "utf-8")
        except OSError as error:
            raise ConfigurationError(f"{str(html)!r} cannot be written: {error.strerror}") from error
        complain(f"written: {html}")
    if as_json:
        print_json(_json(found))
    elif html is None:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(found)))
    return Exit.DONE


def _lines(found: Growth) -> list[str]:
    counted = "counted with its own vocabulary" if found.exact else "estimated from above"
    lines = [f"{visible(found.agent)} on {visible(found.model)}: {found.status}; sizes in tokens, {counted}"]
    if not found.requests:
        return [*lines, "It made no request to a model."]
    lines += ["", *drawn(found.requests), ""]
    picked, left_out = _picked(found)
    header = ("call", "step", "counted", "reported", "cached", *PARTS, "reserved", "window", "")
    lines += aligned([header, *(_cells(found, number) for number in picked)], left=0)
    if left_out:
        lines.append(f"({left_out:,} others left out; --json has them all)")
    lines += ["", "largest messages"]
    rows = [
        ("tokens", "call", "from"),
        *((f"{w.tokens:,}", f"{w.call}", one_line(w.source, 24)) for w in found.largest),
    ]
    heads = ["begins", *(one_line(weight.head, 60) for weight in found.largest)]
    lines += [f"  {row}  {head}" for row, head in zip(aligned(rows, left=0), heads, strict=True)]
    lines += ["", "where it came from"]
    total = sum(tokens for _, _, tokens in found.sources) or 1
    sources = [
        (one_line(source, 30), f"{number:,}", f"{tokens:,}", f"{100 * tokens / total:.0f} %")
        for source, number, tokens in found.sources
    ]
    lines += [f"  {row}" for row in aligned([("source", "messages", "tokens", "share"), *sources], left=1)]
    lines += ["", "what made it smaller"]
    lines += [
        f"  after call {move.call}: {visible(move.what)}, {move.tokens_before:,} to {move.tokens_after:,}"
        for move in found.moves[:SHOWN]
    ] or ["  nothing: it never had to be"]
    for title, texts in (("warnings", found.warnings), ("limits reached", found.limits)):
        if texts:
            lines += ["", title, *(f"  {one_line(text, 110)}" for text in texts[:SHOWN])]
    if found.children:
        lines += ["", "runs that it started", *(f"  {visible(agent)}  {run}" for agent, run in found.children[:SHOWN])]
    return lines


def _picked(found: Growth) -> tuple[list[int], int]:
    """The places of the requests that are listed, and how many are not."""
    total = len(found.requests)
    if total <= SHOWN:
        return list(range(total)), 0
    largest = sorted(range(total), key=lambda n: -found.requests[n].counted)[: SHOWN // 2]
    failed = [n for n, request in enumerate(found.requests) if request.failed][: SHOWN // 4]
    picked = sorted({*range(5), *range(total - 5, total), *largest, *failed})
    return picked, total - len(picked)


def _cells(found: Growth, number: int) -> tuple[str, ...]:
    request = found.requests[number]
    return (
        f"{request.number}",
        f"{request.step}",
        f"{request.counted:,}",
        "" if request.reported is None else f"{request.reported:,}",
        f"{request.cached:,}",
        *(f"{getattr(request, part):,}" for part in PARTS),
        f"{request.reserved:,}",
        f"{request.window:,}",
        request.failed,
    )


def _json(found: Growth) -> Mapping[str, Any]:  # Any: JSON
    return asdict(found)
