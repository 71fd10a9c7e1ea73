"""One jailed interpreter, as an event loop sees it.

Nothing here waits for the inside without a deadline, and nothing that comes from there is believed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio

from wherry.errors import SandboxError

from .files import Collected, WorkFolder
from .frames import Done, FrameError, Ready, encode
from .inputs import file_frames
from .limits import SandboxLimits
from .links import Exit, ProcessLink
from .protocol import Conditions, Execution, ToolHandler
from .snippet import Snippet
from .wire import Wire

_FILL_SECONDS = 60.0


class WorkerSession:
    """A session of any tier whose process runs our worker."""

    def __init__(self, link: ProcessLink, *, tier: str, limits: SandboxLimits, tools: Sequence[str]) -> None:
        self.tier = tier
        self._link = link
        self._wire = Wire(link)
        self._limits = limits
        self._tools = list(tools)
        self._folder = None if link.folder is None else WorkFolder(link.folder, most=limits.disk_bytes)
        self._runs = 0
        self._current: Snippet | None = None

    @property
    def alive(self) -> bool:
        return not self._wire.dead

    async def run(
        self,
        code: str,
        *,
        call_tool: ToolHandler,
        tools: Sequence[str] | None = None,
        conditions: Conditions | None = None,
    ) -> Execution:
        """See `Session.run`."""
        if self._wire.dead:
            raise SandboxError("the session is dead", hint="open a new one; its variables are lost")
        if self._current is not None:
            raise SandboxError("the session runs another snippet", hint="await it, or open a second session")
        if tools is not None:
            self._tools = list(tools)
        self._runs += 1
        snippet = Snippet(self._runs, call_tool, wire=self._wire, link=self._link, limits=self._limits, tier=self.tier)
        self._current = snippet
        self._wire.listen()
        try:
            return await snippet.perform(code, self._tools, conditions, exit_of=self._exit)
        except BaseException:
            if not self._wire.dead:
                await self._wind_down(snippet)
            raise
        finally:
            self._current = None
            snippet.clock.cancel()
            self._wire.rest()

    def interrupt(self) -> None:
        """See `Session.interrupt`."""
        if self._current is not None:
            self._current.clock.stop(signal.SIGUSR2)

    async def collect_files(self) -> Collected:
        """See `Session.collect_files`."""
        return Collected() if self._folder is None else await self._folder.collected()

    async def close(self) -> None:
        """See `Session.close`."""
        self.kill()
        self._folder = None
        self._link.release()
        self._link.release()

    def kill(self) -> None:
        """End the process; its files can still be read until `close`."""
        self._wire.kill()

    async def fill(self, variables: Sequence[bytes], files: Mapping[str, Path]) -> None:
        """Put in what `open` was given.

        Raises:
            SandboxError: a file could not be written, or the session ended meanwhile.
        """
        trouble = ""
        try:
            for data in variables:
                await self._wire.write(data)
            for name, path in files.items():
                for message in file_frames(name, path):
                    await self._wire.write(encode(message))
            if files:
                trouble = await self._filled()
        except (ConnectionError, FrameError, TimeoutError) as error:
            self.kill()
            raise SandboxError("the session ended while it was filled") from error
        except BaseException:
            self.kill()
            raise
        if trouble:
            self.kill()
            raise SandboxError(f"a file could not be put into the sandbox: {trouble}")

    async def _filled(self) -> str:
        """Wait until the files are written: from then on, what differs is a snippet's. What went wrong, if anything."""
        await self._wire.write(encode({"t": "sync"}))
        self._wire.listen()
        try:
            async with asyncio.timeout(_FILL_SECONDS):
                answer = await self._wire.next_frame()
        finally:
            self._wire.rest()
        if not isinstance(answer, Ready):
            raise FrameError(f"an unexpected frame: {type(answer).__name__}")
        if self._folder is not None:
            self._folder.note()
        return answer.trouble

    async def _wind_down(self, snippet: Snippet) -> None:
        """After a cancellation: ask the snippet to stop, and kill it if it does not."""
        if snippet.sending:
            self.kill()
            return
        with anyio.CancelScope(shield=True):
            try:
                snippet.clock.stop(signal.SIGUSR2)
                while not isinstance(await self._wire.next_frame(), Done):
                    pass
            except (ConnectionError, FrameError):
                self.kill()
            except BaseException:
                self.kill()
                raise

    async def _exit(self) -> Exit | None:
        """How the process ended; None if nobody says so in time."""
        with anyio.move_on_after(0.5):
            return await asyncio.shield(asyncio.wrap_future(self._link.exit))
        return None
