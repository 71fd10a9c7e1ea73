"""`wherry sandbox`: get ready in advance what would else be made when it is first needed, and show what is there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from wherry.cli.ending import Exit, complain, print_json
from wherry.errors import SandboxUnavailable
from wherry.observe.costs import aligned
from wherry.observe.visible import visible
from wherry.sandbox import get_sandbox, package_set
from wherry.sandbox.packages import package_sets


def prepare(names: Sequence[str], *, upgrade: bool) -> Exit:
    """Get ready what these names say: `wasm`, `docker`, `docker:IMAGE`, else packages; without any, the jail is tried.

    Raises:
        MissingExtra: `wasm` needs an extra that is not installed.
        SandboxUnavailable: it cannot be had; the message says why.
        ConfigurationError: a name is no package's.
    """
    packages = [name for name in names if name != "wasm" and name.split(":")[0] != "docker"]
    for name in names:
        if name == "wasm":
            _prepare_wasm()
        elif name.split(":")[0] == "docker":
            _prepare_image(name.partition(":")[2])
    if packages:
        _prepare_packages(packages, upgrade=upgrade)
    if not names:
        sys.stdout.write(f"the sandbox works here: tier {get_sandbox().tier}\n")
    return Exit.DONE


def print_sets(*, as_json: bool) -> Exit:
    """The package sets on this machine, newest first."""
    found = package_sets()
    if as_json:
        for made in found:
            print_json({**asdict(made), "folder": str(made.folder)})
        return Exit.DONE
    rows = [("size", "modules", "distributions")]
    rows += [
        (f"{s.bytes / 1e6:,.0f} MB", ", ".join(s.modules), " ".join(f"{n}=={v}" for n, v in s.versions.items()))
        for s in found
    ]
    sys.stdout.write("".join(f"{visible(line)}\n" for line in aligned(rows, left=3)))
    return Exit.DONE


def _prepare_packages(names: Sequence[str], *, upgrade: bool) -> None:
    made = package_set(names, progress=complain, upgrade=upgrade)
    if made is None:
        sys.stdout.write("the standard library has them all; there is nothing to prepare\n")
        return
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    sys.stdout.write(visible(f"ready: {', '.join(made.modules)} ({versions}; {made.bytes / 1e6:,.0f} MB)\n"))
    try:
        tier = get_sandbox(packages=names).tier
    except SandboxUnavailable as error:
        if "with the packages" in error.message:  # the jail works, and they do not work in it
            raise
        complain(f"not tried: {error.message}")
    else:
        sys.stdout.write(f"imported in the tier {tier}\n")


def _prepare_wasm() -> None:
    from wherry.sandbox import wasm

    if not wasm.prepared():
        _with_bar(wasm.prepare) if sys.stderr.isatty() else _with_lines(wasm.prepare)
    sys.stdout.write("ready: wasm\n")


def _prepare_image(image: str) -> None:
    from wherry.sandbox import docker

    try:
        found = docker.look(image)
    except SandboxUnavailable:
        docker.pull(image)
        found = docker.look(image)
    get_sandbox(f"docker:{found}")
    sys.stdout.write(visible(f"ready: docker:{found}\n"))


_Work = Callable[[Callable[[float, float], None]], None]
_WHAT = "compiling Python for this machine"


def _with_bar(work: _Work) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4, transient=True) as bar:
        shown = bar.add_task(_WHAT, total=1.0)
        work(lambda done, total: bar.update(shown, completed=_share(done, total)))


def _with_lines(work: _Work) -> None:
    """Plain lines: one for every tenth of the way."""
    told = -1

    def progress(done: float, total: float) -> None:
        nonlocal told
        tenth = int(10 * _share(done, total))
        if tenth != told:
            told = tenth
            complain(f"{_WHAT}: {10 * tenth} %, {done:.0f} of about {total:.0f} s of processor time")

    work(progress)


def _share(done: float, total: float) -> float:
    """An estimate, so that it never says that all is done before it is."""
    return min(done / total, 0.99)
