"""Keeping what is too large for an event. A store that cannot take it costs the whole of it, not the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wherry.agents.run import Run
from wherry.errors import StoreError
from wherry.store import ArtifactRef, Store

HINT = "free or repair the artifact store: later contents are kept there again"


def keep(run: Run, data: bytes, *, media_type: str) -> ArtifactRef | None:
    """An artifact of a run; None, and a warning, where the store cannot take it."""
    return keep_for(run.store, run.journal.run_id, data, media_type=media_type, warn=run.warn, known=run.warnings)


def keep_for(
    store: Store,
    run_id: str,
    data: bytes,
    *,
    media_type: str,
    warn: Callable[[str, str], object],
    known: Sequence[str] = (),
) -> ArtifactRef | None:
    """`keep`, where there is no run yet.

    Args:
        warn: `warn(message, hint)`.
        known: Warnings that were given already, and are not given again.
    """
    try:
        return store.artifacts.put(data, media_type=media_type, run_id=run_id)
    except StoreError as error:
        message = f"large content could not be stored: {error.message}"
        if message not in known:
            warn(message, HINT)
        return None
