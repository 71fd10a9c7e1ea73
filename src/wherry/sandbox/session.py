"""One jailed interpreter, as an event loop sees it.

Nothing here waits for the inside without a deadline, and nothing that comes from there is believed.
"""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from wherry.errors import SandboxError
from wherry.messages import JSON

from .frames import Call, Decoder, Done, Final, Frame, FrameError, encode
from .inputs import file_frames
from .limits import SandboxLimits
from .links import Exit, ProcessLink
from .protocol import Execution, ExecutionKind, ToolHandler

GRACE_SECONDS = 0.5
"""Between asking a snippet to stop and killing it: loops in C never look up."""
FINAL_SECONDS = 1.0
"""What a snippet has left for its `finally` blocks once it gave its final answer."""
_FLOOD = 1000
"""Calls over the limit, each answered with an error, after which the session is ended."""
_READ, _LARGE_READ = 1 << 14, 1 << 18
"""The buffer of a read is made before it: a large one costs a mapping and its page faults each time."""
_SEND = 1 << 16


class WorkerSession:
    """A session of any tier whose process runs our worker."""

    def __init__(self, link: ProcessLink, *, tier: str, limits: SandboxLimits, tools: Sequence[str]) -> None:
        self.tier = tier
        self._link = link
        self._descriptor = link.sock.fileno()  # the loop is given the number: it looks a socket object up each time
        self._limits = limits
        self._tools = list(tools)
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._read_size = _READ
        self._ended = False
        self._dead = False
        self._frozen = False
        self._paused = False
        self._listening = False
        self._rest: asyncio.Handle | None = None
        self._runs = 0
        self._current: _Run | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def alive(self) -> bool:
        return not self._dead

    async def run(self, code: str, *, call_tool: ToolHandler, tools: Sequence[str] | None = None) -> Execution:
        """See `Session.run`."""
        if self._dead:
            raise SandboxError("the session is dead", hint="open a new one; its variables are lost")
        if self._current is not None:
            raise SandboxError("the session runs another snippet", hint="await it, or open a second session")
        if tools is not None:
            self._tools = list(tools)
        self._runs += 1
        run = _Run(self, self._runs, call_tool)
        self._current = run
        self._get_ready()
        try:
            execution = await run.perform(code, self._tools)
        except BaseException:
            if not self._dead:
                await self._wind_down(run)
            raise
        finally:
            self._current = None
            run.cancel_timer()
            # Not now, but before the loop waits for anything: whoever runs snippet after snippet saves the stops.
            self._rest = self._loop.call_soon(self._freeze)
        return execution

    def interrupt(self) -> None:
        """See `Session.interrupt`."""
        if self._current is not None:
            self._current.stop(signal.SIGUSR2)

    async def close(self) -> None:
        """See `Session.close`."""
        self.kill()

    def kill(self) -> None:
        if not self._dead:
            self._dead = True
            self._stop_listening()
            self._link.kill()
            self.wake()

    async def fill(self, variables: Sequence[bytes], files: Mapping[str, Path]) -> None:
        """Put in what `open` was given.

        Raises:
            SandboxError: the session ended meanwhile.
        """
        try:
            for data in variables:
                await self.write(data)
            for name, path in files.items():
                for message in file_frames(name, path):
                    await self.write(encode(message))
        except ConnectionError as error:
            self.kill()
            raise SandboxError("the session ended while it was filled") from error
        except BaseException:
            self.kill()
            raise

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
        self._loop.add_writer(self._descriptor, self.wake)
        try:
            await self.wait()
        finally:
            if not self._dead:
                self._loop.remove_writer(self._descriptor)

    async def wait(self) -> None:
        """Until something happens: bytes came or can go, a timer ran out, the session was killed."""
        if self._dead:
            raise ConnectionError("the session is gone")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._dead:
            raise ConnectionError("the session is gone")

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_frame(self) -> Frame:
        while True:
            frame = self._decoder.next()
            if frame is not None:
                return frame
            if self._ended:
                raise ConnectionError("the session ended")
            if self._paused:
                self._paused = False
                self._get_ready()
            await self.wait()

    def _on_readable(self) -> None:
        if self._decoder.full:  # no more before what is here was looked at; only a flood gets here
            self._paused = True
            self._stop_listening()
            self.wake()
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
        self.wake()

    def _get_ready(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._descriptor, self._on_readable)

    def _freeze(self) -> None:
        """Between snippets nothing inside moves, so that threads that were left over burn nothing, and no one listens.

        A loop that listened would also keep a session alive that everybody else has forgotten.
        """
        if not self._dead:
            self._stop_listening()
            self._link.signal(signal.SIGSTOP)
            self._frozen = True

    def _thaw(self) -> None:
        if self._frozen:
            self._link.signal(signal.SIGCONT)
            self._frozen = False

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)

    async def _wind_down(self, run: _Run) -> None:
        """After a cancellation: ask the snippet to stop, and kill it if it does not."""
        if run.sending:  # a frame is half written; nothing after it could be read
            self.kill()
            return
        with anyio.CancelScope(shield=True):
            try:
                run.stop(signal.SIGUSR2)
                while not isinstance(await self.next_frame(), Done):
                    pass
            except (ConnectionError, FrameError):
                self.kill()
            except BaseException:
                self.kill()
                raise
            else:
                run.cancel_timer()

    async def exit(self) -> Exit | None:
        """How the process ended; None if nobody says so in time."""
        with anyio.move_on_after(0.5):
            return await asyncio.shield(asyncio.wrap_future(self._link.exit, loop=self._loop))
        return None

    @property
    def limits(self) -> SandboxLimits:
        return self._limits

    @property
    def link(self) -> ProcessLink:
        return self._link


class _Run:
    """One snippet: its clock, its calls, its answer."""

    def __init__(self, session: WorkerSession, number: int, call_tool: ToolHandler) -> None:
        self._session = session
        self._number = number
        self._call_tool = call_tool
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        self._deadline = self._loop.time() + session.limits.wall_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._asking = False
        self._stopping = False
        self._killed = False
        self._final: Final | None = None
        self._calls = 0
        self.sending = False

    async def perform(self, code: str, tools: list[str]) -> Execution:
        self._arm()
        try:
            await self._send({"t": "run", "id": self._number, "code": code, "tools": tools})
            while True:
                frame = await self._session.next_frame()
                match frame:
                    case Done() if frame.run == self._number:
                        return self._finished(frame)
                    case Call():
                        await self._answer(frame)
                    case Final():
                        self._take_final(frame)
                    case _:
                        raise FrameError(f"an unexpected frame: {type(frame).__name__}")  # noqa: TRY301
        except FrameError as error:
            self._session.kill()
            return self._lost("protocol", f"the session sent what is no valid message and was ended: {error}")
        except ConnectionError:
            return await self._died()

    def _arm(self) -> None:
        self.cancel_timer()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._asking and not self._stopping:
            return  # the clock stands; `_ask` sets it again
        if self._loop.time() < self._deadline:
            self._arm()  # the deadline has moved: setting a timer anew for each tool call would cost more than this
        elif self._stopping:
            self._killed = True
            self._session.kill()
        else:
            self.stop(signal.SIGUSR1)

    def stop(self, number: int) -> None:
        """Ask the snippet to stop; kill it if it does not in half a second."""
        if not self._stopping:
            self._stopping = True
            self._session.link.signal(number)
        self._deadline = self._loop.time() + GRACE_SECONDS
        self._arm()

    def _take_final(self, frame: Final) -> None:
        if self._final is None:  # the first one counts
            self._final = frame
            self._deadline = min(self._deadline, self._loop.time() + FINAL_SECONDS)
            self._arm()

    async def _send(self, message: dict[str, Any]) -> None:
        data = encode(message)
        self.sending = True
        await self._session.write(data)
        self.sending = False

    async def _answer(self, call: Call) -> None:
        self._calls += 1
        limit = self._session.limits.tool_calls
        if self._calls > limit + _FLOOD:
            raise FrameError(f"more than {limit + _FLOOD:,} tool calls")
        reply: dict[str, Any] = {"t": "result", "n": call.number}
        if self._final is not None:
            reply["error"] = "the run has ended: final_answer was called"
        elif self._calls > limit:
            reply["error"] = f"a snippet may make {limit} tool calls; this one made more"
        elif call.name not in self._session._tools:  # pyright: ignore[reportPrivateUsage]  # one module
            reply["error"] = f"there is no tool {call.name!r}"
        else:
            reply |= await self._ask(call)
        try:
            await self._send(reply)
        except FrameError as error:
            await self._send({"t": "result", "n": call.number, "error": f"the result of {call.name}: {error}"})
        except (TypeError, ValueError, RecursionError) as error:
            text = f"the result of {call.name} is no JSON: {error}"
            await self._send({"t": "result", "n": call.number, "error": text})

    async def _ask(self, call: Call) -> dict[str, JSON]:
        """The clock stands while the host works: a managed agent may take minutes.

        Not once the snippet was told to stop: by calling a tool it would get all the time that it wants.
        """
        asked = self._loop.time()
        self._asking = True
        try:
            return {"value": await self._call_tool(call.name, call.args, call.kwargs)}
        except Exception as error:  # noqa: BLE001  # the contract: whatever a tool raises is told inside
            return {"error": getattr(error, "message", None) or str(error) or type(error).__name__}
        finally:
            self._asking = False
            if not self._stopping:
                self._deadline += self._loop.time() - asked
                if self._timer is None:
                    self._arm()

    def _finished(self, done: Done) -> Execution:
        refused = self._session.link.refusals.take()
        final = self._final
        kind: ExecutionKind | None = None if final else _kind(done.kind)
        return Execution(
            ok=kind is None,
            value=final.value if final else done.value,
            has_value=final is not None or done.has_value,
            final=final is not None,
            kind=kind,
            error="" if final else done.error,
            stdout=self._cut(done.stdout),
            stderr=self._cut(done.stderr),
            seconds=time.monotonic() - self._started,
            cpu_seconds=done.cpu_seconds,
            refused=refused,
            tool_calls=self._calls,
            tier=self._session.tier,
        )

    def _cut(self, text: str) -> str:
        """What the worker keeps is bounded; what a forged frame says may not be."""
        return text[: self._session.limits.stdout_bytes + 100]

    async def _died(self) -> Execution:
        flooded = self._session.link.refusals.flooded
        ended = await self._session.exit() if not self._killed else None
        self._session.kill()
        if self._killed:
            seconds = self._session.limits.wall_seconds
            text = f"the snippet ran into its limit of {seconds:g} s, did not stop when asked to, and was killed"
            return self._lost("timeout", text)
        if flooded:
            return self._lost("refused", "the snippet went on trying system calls that are not allowed")
        if ended is not None and ended.cpu_seconds >= math.floor(self._session.limits.cpu_seconds * 0.98):
            return self._lost(
                "timeout", f"the session used up its {self._session.limits.cpu_seconds} s of processor time"
            )
        return self._lost("killed", f"the snippet's process ended: {_reason(ended)}")

    def _lost(self, kind: ExecutionKind, text: str) -> Execution:
        final = self._final
        return Execution(
            ok=final is not None,
            value=final.value if final else None,
            has_value=final is not None,
            final=final is not None,
            kind=None if final else kind,
            error="" if final else f"{text}. All variables are lost.",
            seconds=time.monotonic() - self._started,
            refused=self._session.link.refusals.take(),
            tool_calls=self._calls,
            tier=self._session.tier,
        )


def _kind(kind: str | None) -> ExecutionKind | None:
    match kind:
        case "exception" | "timeout" | "memory":
            return kind
        case _:
            return None


def _reason(ended: Exit | None) -> str:
    if ended is None:
        return "nobody knows how"
    if ended.code < 0:
        try:
            return f"killed by {signal.Signals(-ended.code).name}"
        except ValueError:
            return f"killed by signal {-ended.code}"
    return f"it exited with code {ended.code}"
