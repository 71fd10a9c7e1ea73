"""`wherry doctor` without a run: what this machine can do. Each part is examined by a function of `wherry.doctor`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from wherry.cli.ending import Exit, print_json
from wherry.doctor.sandbox import Layer, SandboxReport, Tier, examine_sandbox
from wherry.observe.visible import visible

_WIDTH = 116


def print_machine(*, as_json: bool) -> Exit:
    """All parts, one after the other; exit code 1 if code cannot be run in any jail here."""
    sandbox = examine_sandbox()
    if as_json:
        print_json({"sandbox": sandbox_as_json(sandbox)})
    else:
        sys.stdout.write("".join(f"{visible(line)}\n" for line in sandbox_lines(sandbox)))
    return Exit.DONE if sandbox.auto is not None else Exit.FAILED


def sandbox_as_json(report: SandboxReport) -> dict[str, Any]:  # Any: JSON
    """The report for machines; folders as text."""
    found = asdict(report)
    found["packages"] = [{**asdict(made), "folder": str(made.folder)} for made in report.packages]
    return found


def sandbox_lines(report: SandboxReport) -> list[str]:
    """The report for people."""
    best = f"code runs in the tier {report.auto}" if report.auto else "no tier works: agents that write code cannot run"
    lines = [f"sandbox: {best}", "", "tiers"]
    lines += _table(report.tiers)
    lines += ["", "layers"]
    lines += _table(report.layers)
    lines += ["", "limits of a session, if no others are asked for"]
    width = max(map(len, report.limits))
    lines += [f"  {name:<{width}}  {value:,}" for name, value in report.limits.items()]
    lines += ["", "packages"]
    for made in report.packages:
        versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
        lines += _wrapped(f"  {', '.join(made.modules)}: {made.bytes / 1e6:,.0f} MB, {versions}", indent=4)
    if not report.packages:
        lines.append(
            "  none yet: `wherry sandbox prepare PACKAGE...`, or an agent with `authorized_imports`, makes a set"
        )
    return lines


def _table(rows: Iterable[Tier | Layer]) -> list[str]:
    rows = list(rows)
    width = max(len(row.name) for row in rows)
    lines: list[str] = []
    for row in rows:
        start = f"  {row.name:<{width}}  {'works' if row.works else 'no   '}"
        lines += _wrapped(f"{start}  {row.note}".rstrip(), indent=width + 11)
        if isinstance(row, Tier) and row.hint:
            lines += _wrapped(f"{' ' * (width + 11)}hint: {row.hint}", indent=width + 17)
    return lines


def _wrapped(line: str, *, indent: int) -> list[str]:
    return textwrap.wrap(
        line, _WIDTH, subsequent_indent=" " * indent, drop_whitespace=True, break_on_hyphens=False
    ) or [""]
