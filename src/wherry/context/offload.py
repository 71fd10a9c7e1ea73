"""Keeping what is too large for a message: as an artifact of the run, and by a tag that says where it is."""

from __future__ import annotations

import re
from collections.abc import Callable

from wherry.errors import StoreError
from wherry.journal import EventType
from wherry.store.protocol import Artifacts

OPENING = "<wherry:offloaded"
CLOSING = "</wherry:offloaded>"

_REF = re.compile(r"a-[0-9a-f]{12,64}")  # no \b: a pattern that begins with letters is looked for much quicker
_MOST_REFS = 200
"""References that one message is searched for, so that a text made of them costs no minute of database work."""
_MOST_KNOWN = 10_000


def references(text: str) -> list[str]:
    """What in a text looks like the reference of an artifact, each once."""
    if "a-" not in text:
        return []
    found: dict[str, None] = {}
    for match in _REF.finditer(text):
        found[match[0]] = None
        if len(found) >= _MOST_REFS:
            break
    return list(found)


class Offload:
    """The artifacts of one run. It never raises for a store that cannot be written: the run goes on with previews.

    Args:
        artifacts: None: nothing is kept.
        run_id: Whose they are.
        record: `record(type, **payload)`, as `RunJournal.record`.
    """

    def __init__(self, artifacts: Artifacts | None, *, run_id: str, record: Callable[..., object]) -> None:
        self.artifacts = artifacts
        self._run_id = run_id
        self._record = record
        self._linked: set[str] = set()
        self._warned = False

    def keep(self, data: bytes, media_type: str) -> str | None:
        """The reference of `data` in the store; None where it could not be stored."""
        if self.artifacts is None:
            return None
        try:
            ref = self.artifacts.put(data, media_type=media_type, run_id=self._run_id).ref
        except (StoreError, OSError) as error:
            self._warn(error)
            return None
        self._warned = False  # mended: the next failure is news again
        self._note(ref)
        return ref

    def refer(self, text: str) -> None:
        """Keep the artifacts that a text names from being removed before this run is.

        A text can come from another run: a session's earlier one, a managed agent's, a manager's.
        """
        if self.artifacts is None:
            return
        for ref in references(text):
            if ref in self._linked:
                continue
            try:
                self.artifacts.link(ref, self._run_id)
            except StoreError:
                continue  # it only looks like one; or the store fails, and says so where something is to be kept
            self._note(ref)

    def _note(self, ref: str) -> None:
        if len(self._linked) >= _MOST_KNOWN:
            self._linked.clear()  # linking twice is linking once
        self._linked.add(ref)

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        self._record(
            EventType.WARNING,
            message=f"large content could not be stored, only its preview is kept: {error}",
            hint="free or repair the artifact store: later messages are offloaded to it again",
        )


def opening(ref: str | None, *, media_type: str, size: int, lines: int) -> str:
    """The tag before a preview.

    Args:
        size: Bytes of the whole.
    """
    told = f'type="{media_type}" bytes="{size}" lines="{lines}"'
    if ref is None:
        return f'{OPENING} {told} note="not stored: only this preview is left">'
    return f'{OPENING} ref="{ref}" {told} more="read_artifact(ref, offset, limit), search_artifact(ref, query)">'


def short_opening(ref: str | None) -> str:
    """The tag alone, where there is no room for more."""
    return f"{OPENING}/>" if ref is None else f'{OPENING} ref="{ref}"/>'


def no_room(excerpt: str) -> str:
    """What stands for an excerpt of a stored content where no part of it fits: never nothing."""
    found = references(excerpt[:200])
    return f"[{found[0] if found else 'excerpt'}: no room; ask for less]"
