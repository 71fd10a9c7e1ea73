"""What is on record of a run that a call is asked about in: what it was made with, whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wherry.journal import EventType, read_events
from wherry.messages import canonical
from wherry.redaction import MASK
from wherry.tools import as_json

if TYPE_CHECKING:
    from wherry.agents.run import Run


Given = Mapping[str, Any]  # Any: JSON, or what a snippet gave


def begun_with(run: Run, call: str, arguments: Given) -> Given:
    """What a call was made with when the process ended: a person may have approved it with other arguments."""
    given = again = arguments
    for event in run.past:
        payload = event.payload
        if (payload.get("call"), payload.get("step")) != (call, run.step):
            continue
        if event.type is EventType.TOOL_CALLED:
            given = again
        elif event.type is EventType.APPROVAL_DECIDED and payload["approved"]:
            if payload["kind"] == "approval":
                given = again = payload.get("arguments", arguments)
            elif payload["kind"] == "unknown":
                # Who lets it be made again without a word about arguments means those that it was made with.
                again = payload.get("arguments", given)
    return given


def masked(run: Run, arguments: Given) -> bool:
    """Whether arguments have a mask where there was a secret: they come from records that were made without it."""
    if MASK not in canonical(as_json(dict(arguments))):
        return False
    told = [event.payload["run_id"] for event in run.past if event.type is EventType.AGENT_RETURNED]
    return any(event.payload.get("masked") for event in run.past) or any(
        event.payload.get("masked") for run_id in told for event in read_events(run.store, run_id)
    )


def root_of(run: Run) -> str:
    """The run that a person or program started."""
    run_id, parent = run.journal.run_id, run.journal.parent_run_id
    while parent is not None:
        run_id, parent = parent, run.store.run(parent).parent_run_id
    return run_id
