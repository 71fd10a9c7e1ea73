"""What a snippet left in its work folder: kept as artifacts, told to the model, part of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.agents.keeping import keep
from wherry.agents.result import ResultFile
from wherry.agents.run import Run
from wherry.sandbox import Session

MAX_TOLD = 10
"""Files that the model is told of one by one."""


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """Of one snippet."""

    files: Sequence[ResultFile] = ()
    left_out: Sequence[str] = ()
    """Name and reason of what was not kept."""

    def told(self) -> list[str]:
        """Lines for the model."""
        lines = [
            f"File kept: {file.name} ({file.bytes:,} bytes, artifact {file.ref})" for file in self.files[:MAX_TOLD]
        ]
        if len(self.files) > MAX_TOLD:
            lines.append(f"... and {len(self.files) - MAX_TOLD} more files")
        return lines + [f"File not kept: {text}" for text in self.left_out[:MAX_TOLD]]


async def keep_files(run: Run, session: Session) -> KeptFiles:
    """Take what is new or changed out of the session, even if it was killed."""
    found = await session.collect_files()
    if not found:
        return KeptFiles()
    files: list[ResultFile] = []
    left_out = [f"{left.name}: {left.reason}" for left in found.left_out]
    for file in found.files:
        kept = keep(run, file.data, media_type=file.media_type)
        if kept is None:
            left_out.append(f"{file.name}: it could not be stored")
        else:
            files.append(ResultFile(file.name, kept.ref, kept.bytes, file.media_type))
    run.files.update({file.name: file for file in files})
    return KeptFiles(files, left_out)
