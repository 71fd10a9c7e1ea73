"""A session's socket on an event loop: frames both ways, and stillness in between.

Nothing here waits without somebody who can end it: `kill` wakes whoever waits.
"""

from __future__ import annotations

import asyncio
import signal

from .frames import Decoder, Frame
from .links import ProcessLink

_READ, _LARGE_READ = 1 << 14, 1 << 18
"""The buffer of a read is made before it: a large one costs a mapping and its page faults each time."""
_SEND = 1 << 16


class Wire:
    """Belongs to the loop that it was made in."""

    def __init__(self, link: ProcessLink) -> None:
        self._link = link
        self._descriptor = link.sock.fileno()  # the loop is given the number: it looks a socket object up each time
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._read_size = _READ
        self._dead = False
        self._ended = False
        self._frozen = False
        self._paused = False
        self._listening = False
        self._writing = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def dead(self) -> bool:
        return self._dead

    def kill(self) -> None:
        """End the process at once; whoever waits gets a ConnectionError. From any thread."""
        if self._dead:
            return
        self._dead = True
        if not self._loop.is_running() or self._on_its_loop():
            self._let_go()
            return
        self._link.signal(signal.SIGKILL)
        try:  # the loop is another thread's: only there may its readers and futures be touched
            self._loop.call_soon_threadsafe(self._let_go)
        except RuntimeError:  # it was closed meanwhile
            self._let_go()

    def _on_its_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _let_go(self) -> None:
        if not self._loop.is_closed():
            self._stop_listening()
            self._stop_writing()
        self._link.kill()
        if not self._loop.is_closed():
            self._wake()

    def listen(self) -> None:
        """Before a snippet: take in what comes."""
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._descriptor, self._on_readable)

    def rest(self) -> None:
        """After a snippet, at once: nothing inside moves until the next, so that threads left over burn nothing.

        Nor does anyone listen: a loop that did would keep a session alive that everybody else has forgotten.
        """
        if not self._dead:
            self._stop_listening()
            self._link.signal(signal.SIGSTOP)
            self._frozen = True

    async def write(self, data: bytes) -> None:
        """Hand bytes over, however slowly they are read.

        Raises:
            ConnectionError: the session is gone.
        """
        rest = self._send(memoryview(data))
        self._thaw()  # only now: what wakes up finds something to read, and need not wait once more
        while rest:
            await self._writable()
            rest = self._send(rest)

    async def next_frame(self) -> Frame:
        """The next frame from inside, however long it takes.

        Raises:
            FrameError: what came is no valid frame.
            ConnectionError: the session is gone.
        """
        while True:
            frame = self._decoder.next()
            if frame is not None:
                return frame
            if self._ended:
                raise ConnectionError("the session ended")
            if self._paused:
                self._paused = False
                self.listen()
            await self._wait()

    def _send(self, view: memoryview) -> memoryview:
        """Send what fits; gives back the rest."""
        try:
            while view:
                view = view[self._link.sock.send(view[:_SEND]) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ConnectionError("the session is gone") from error
        return view

    async def _writable(self) -> None:
        if not self._dead:
            self._writing = True
            self._loop.add_writer(self._descriptor, self._wake)
        try:
            await self._wait()
        finally:
            self._stop_writing()

    async def _wait(self) -> None:
        """Until something happens: bytes came or can go, the session was killed."""
        if self._dead:
            raise ConnectionError("the session is gone")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._dead:
            raise ConnectionError("the session is gone")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _on_readable(self) -> None:
        if self._decoder.full:  # no more before what is here was looked at; only a flood gets here
            self._paused = True
            self._stop_listening()
            self._wake()
            return
        try:
            data = self._link.sock.recv(self._read_size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._read_size = _LARGE_READ if len(data) == self._read_size else _READ
            self._decoder.feed(data)
        else:
            self._ended = True
            self._stop_listening()
        self._wake()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._descriptor)

    def _thaw(self) -> None:
        if self._frozen:
            self._link.signal(signal.SIGCONT)
            self._frozen = False

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)
