"""What a group chat has come to: shown to stop conditions, to functions that choose speakers, and to people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field

from wherry.context.transcript import Said, Transcript
from wherry.messages import Usage

ASKER = "user"
"""Who the task is from, in the transcript."""
NOTES = "chat"
"""Whose words the notes of the group itself are: that somebody failed, or took too long."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A group chat under way, as it is between two rounds."""

    run_id: str
    task: str
    _: KW_ONLY
    participants: Sequence[str]
    """Their names, in the order in which they were given."""
    transcript: Transcript
    """All that was said, the task first; it is read from the store."""
    round: int = 0
    """Rounds that are over. A round is one choice of who speaks: mostly one speaker, several where they speak at
    once."""
    speakers: Sequence[str] = ()
    """Who spoke, or was asked to, in the last round."""
    newest: Sequence[Said] = ()
    """What was said in the last round; before the first one, the task."""
    usage: Usage = field(default_factory=Usage)
    """Of the whole run so far."""
    seconds: float = 0.0
    """Since this run began, or was gone on with."""

    def last(self, number: int = 10) -> list[Said]:
        """The newest entries of the transcript, at most so many, oldest first."""
        return self.transcript.read(after=max(0, len(self.transcript) - number), limit=number)
