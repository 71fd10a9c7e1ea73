"""What a server computed of the beginning of a prompt, kept on disk from one process to the next.

The beginning (instructions, examples, tools) is the same in every run; reading it takes 5 to 9 s on two cores, fetching
it back 10 ms. Only that beginning is kept, never a task or an answer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wherry.messages import Message, digest
from wherry.models.chat_completions import wire_message
from wherry.models.local.catalogue import user_folder
from wherry.models.local.server import Endpoint

MOST_BYTES = 1_000_000_000
WORTH_CHARS = 500
"""Shorter beginnings are read again as fast."""


def prefix_folder(model: Path, context: int) -> Path:
    """Where the beginnings of one model's prompts are kept. Another file, context or llama.cpp is another folder."""
    stat = model.stat()
    try:
        build = version("xllamacpp")
    except PackageNotFoundError:  # a build of one's own, without metadata
        build = ""
    name = digest(f"{model}|{stat.st_size}|{stat.st_mtime_ns}|{context}|{build}".encode())[:16]
    return user_folder("XDG_CACHE_HOME", ".cache") / "prefixes" / name


async def warm(endpoint: Endpoint, folder: Path, slot: int, beginning: Sequence[Message]) -> None:
    """Bring the beginning of a prompt into a slot: from disk, or by reading it, and then onto the disk.

    Only ever saves time: whatever goes wrong, the request itself reads all of its prompt.
    """
    if sum(len(message.content) for message in beginning) < WORTH_CHARS:
        return
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError

    http = DefaultAsyncHttpxClient(trust_env=False, verify=False)  # loopback: no proxy, no certificates
    async with AsyncOpenAI(base_url=endpoint.url, api_key=endpoint.key, max_retries=0, http_client=http) as client:

        async def post(path: str, body: Mapping[str, Any]) -> Any:  # Any: llama.cpp's own JSON
            return await client.post(path, cast_to=object, body=dict(body))

        with contextlib.suppress(OpenAIError, OSError, KeyError, TypeError):
            messages = [wire_message(message) for message in beginning]
            made = await post("/apply-template", {"messages": messages, "add_generation_prompt": False})
            text: str = made["prompt"]
            file = folder / f"{digest(text.encode())[:32]}.bin"
            if file.exists():
                try:
                    await post(f"/slots/{slot}?action=restore", {"filename": file.name})
                except OpenAIError:
                    file.unlink(missing_ok=True)  # cut, or of another build
                    raise
                os.utime(file)
                return
            await post("/completion", {"prompt": text, "n_predict": 0, "id_slot": slot, "cache_prompt": True})
            unfinished = f"{file.stem}.{endpoint.pid}.partial"
            await post(f"/slots/{slot}?action=save", {"filename": unfinished})
            (folder / unfinished).replace(file)
            _prune(folder.parent)


def _prune(folder: Path) -> None:
    """Keep the most recently used files, up to `MOST_BYTES`."""
    files = sorted(folder.glob("*/*"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > MOST_BYTES:
            file.unlink(missing_ok=True)
