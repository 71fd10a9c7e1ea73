"""What a run was asked, written down so that it can be gone on with from the journal alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from wherry.agents.handing import INLINE_BYTES, encoded
from wherry.agents.keeping import keep_for
from wherry.agents.past import Past
from wherry.agents.run import Order
from wherry.errors import StoreError
from wherry.journal import EventType, RunJournal
from wherry.messages import Message, canonical, parse
from wherry.policy import Limits
from wherry.sandbox.values import Encoded
from wherry.store import Store
from wherry.tools.threads import run_in_thread

TASK_CHARS = 2000
"""A task up to this size stands in the first event; a longer one is kept as a message."""


async def written_down(order: Order, given: str, journal: RunJournal, store: Store, *, code: bool) -> dict[str, Any]:
    """An order as `run.started` has it.

    Args:
        order: What the run is asked.
        given: What the task says of inputs and files.
        journal: The run's.
        store: Keeps what is large.
        code: Whether the run has a sandbox, into which inputs and files go.
    """
    written: dict[str, Any] = {}
    if limits := written_limits(order.limits):
        written["limits"] = limits
    if len(order.task) > TASK_CHARS:
        written["task"] = journal.keep(Message("user", order.task))
    if given:
        in_message = len(given) > TASK_CHARS
        written["given_in" if in_message else "given"] = journal.keep(Message("user", given)) if in_message else given

    def warn(message: str, hint: str) -> None:
        journal.record(EventType.WARNING, message=message, hint=hint)

    keep = partial(keep_for, store, journal.run_id, warn=warn)
    if code and order.inputs:
        tree = {name: encoded(value).tree for name, value in order.inputs.items()}
        data = canonical(tree)
        if len(data) <= INLINE_BYTES:
            written["inputs"] = tree
        else:
            kept = keep(data, media_type="application/json")
            written["inputs_ref"] = None if kept is None else kept.ref
    if code and order.files:
        written["files"] = [await run_in_thread(partial(_kept_file, path, keep), timeout=None) for path in order.files]
    return written


def given_then(past: Past, store: Store) -> str | None:
    """What the task of a run says of its inputs and files; None where that was not written down.

    Raises:
        StoreError: It is not in the store.
    """
    written = past.started["order"]
    if "given_in" in written:
        return Message.decode(store.message(written["given_in"])).content
    return written.get("given")


def written_limits(limits: Limits) -> dict[str, Any]:
    """Limits as `run.started` and `run.resumed` have them."""
    given = {name: value for name, value in asdict(limits).items() if value is not None}
    return {name: str(value) if name == "usd" else value for name, value in given.items()}


def _kept_file(path: Path, keep: Callable[..., Any]) -> list[str | None]:  # Any: as `keep_for`
    kept = keep(path.read_bytes(), media_type="application/octet-stream")
    return [path.name, None if kept is None else kept.ref]


@contextmanager
def order_of(past: Past, store: Store, *, limits: Limits | None, max_steps: int | None) -> Generator[Order]:
    """The order that a run was begun with; its files are there until the block ends.

    Args:
        past: The run.
        store: Has what was large.
        limits: Instead of those that it had last.
        max_steps: Instead of those that it had last.

    Raises:
        StoreError: Something of it is gone, or could not be kept at the time.
    """
    started, written = past.started, past.started["order"]
    task = started["task"] if "task" not in written else Message.decode(store.message(written["task"])).content
    with tempfile.TemporaryDirectory(prefix="wherry-files-") as folder:
        yield Order(
            task,
            inputs=_inputs(written, store, past.run_id),
            files=_files(written.get("files", ()), Path(folder), store, past.run_id),
            session=started["session"],
            max_steps=past.resumed.get("max_steps", started["max_steps"]) if max_steps is None else max_steps,
            limits=Limits(**past.resumed.get("limits", written.get("limits", {}))) if limits is None else limits,
        )


def _inputs(written: Mapping[str, Any], store: Store, run_id: str) -> dict[str, Any]:  # Any: encoded values
    tree = written.get("inputs", {})
    if "inputs_ref" in written:
        tree = parse(store.artifacts.read(_there(written["inputs_ref"], "inputs", run_id)))
    return {name: Encoded(value) for name, value in tree.items()}


def _files(written: Sequence[Sequence[str | None]], folder: Path, store: Store, run_id: str) -> list[Path]:
    paths: list[Path] = []
    for name, ref in written:
        path = folder / Path(str(name)).name
        path.write_bytes(store.artifacts.read(_there(ref, f"file {json.dumps(name)}", run_id)))
        paths.append(path)
    return paths


def _there(ref: str | None, what: str, run_id: str) -> str:
    if ref is None:
        raise StoreError(
            f"run {run_id!r} cannot be gone on with: its {what} could not be stored when it began", run_id=run_id
        )
    return ref
