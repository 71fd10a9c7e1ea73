"""One snippet as the host sees it: what is sent, its tool calls, its answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .clock import FINAL_SECONDS, Clock
from .frames import Call, Done, Final, FrameError, encode
from .inside.encoding import ValueTooLargeError
from .inside.encoding import encode as encoded
from .limits import SandboxLimits
from .links import Exit, ProcessLink
from .outcome import Outcome, cause_of_death
from .protocol import Conditions, Execution, ExecutionKind, ToolHandler
from .wire import Wire

_SEED_BYTES = 32
"""As long as a digest: the patterns of a policy leave a text of that form alone (`wherry.redaction`)."""
_FLOOD = 50
"""Calls over the limit, each answered with an error, after which the session is ended."""
_CALL_BYTES = 64 << 20
"""Of all tool calls of a snippet together; each is read on the host's own thread."""
_MOST_TEXT = 1000


def new_seed() -> str:
    """A seed for `Conditions`."""
    return os.urandom(_SEED_BYTES).hex()


class Snippet:
    """Lives as long as one `Session.run`."""

    def __init__(
        self, number: int, call_tool: ToolHandler, *, wire: Wire, link: ProcessLink, limits: SandboxLimits, tier: str
    ) -> None:
        self._number = number
        self._call_tool = call_tool
        self._wire, self._link = wire, link
        self._limits, self._tier = limits, tier
        self._tools: Sequence[str] = ()
        self._started = time.monotonic()
        self._final: Final | None = None
        self._calls = 0
        self._call_bytes = 0
        self._seed = ""
        self.clock = Clock(limits.wall_seconds, ask=link.signal, kill=wire.kill)
        self.sending = False
        """A frame is half written; nothing after it could be read."""

    async def perform(
        self,
        code: str,
        tools: Sequence[str],
        conditions: Conditions | None,
        *,
        exit_of: Callable[[], Awaitable[Exit | None]],
    ) -> Execution:
        """Run it to its end, whatever that is.

        Args:
            code: Python source.
            tools: names that it may call.
            conditions: those of the time before; None: new ones.
            exit_of: tells how the process ended, once it did.
        """
        self._tools = tools
        self._seed = new_seed() if conditions is None else conditions.seed
        message: dict[str, Any] = {"t": "run", "id": self._number, "code": code, "tools": list(tools)}
        message["seed"] = self._seed
        if conditions is not None and conditions.clock is not None:
            message["clock"] = {name: list(found) for name, found in conditions.clock.items()}
            message["partial"] = conditions.partial
        self.clock.start()
        try:
            await self._send(message)
            while True:
                frame = await self._wire.next_frame()
                match frame:
                    case Done() if frame.run == self._number:
                        return self._outcome().finished(frame, cap=self._limits.stdout_bytes + 100)
                    case Call():
                        await self._answer(frame)
                    case Final():
                        self._take_final(frame)
                    case _:
                        raise FrameError(f"an unexpected frame: {type(frame).__name__}")  # noqa: TRY301
        except FrameError as error:
            return self._lost("protocol", f"the session sent what is no valid message and was ended: {error}")
        except ConnectionError:
            killed, flooded = self.clock.killed, self._link.refusals.flooded
            ended = None if killed else await exit_of()
            kind, text = cause_of_death(ended, killed=killed, flooded=flooded, limits=self._limits)
            return self._lost(kind, text)

    def _take_final(self, frame: Final) -> None:
        if self._final is None:  # the first one counts
            self._final = frame
            self.clock.shorten(FINAL_SECONDS)

    async def _send(self, message: dict[str, Any]) -> None:
        data = encode(message)
        self.sending = True
        await self._wire.write(data)
        self.sending = False

    async def _answer(self, call: Call) -> None:
        self._calls += 1
        limit = self._limits.tool_calls
        if self._calls > limit + _FLOOD:
            raise FrameError(f"more than {limit + _FLOOD:,} tool calls")
        self._call_bytes += call.size
        if self._call_bytes > _CALL_BYTES:
            raise FrameError(f"more than {_CALL_BYTES >> 20} MiB of tool calls")
        reply: dict[str, Any] = {"t": "result", "n": call.number}
        if self._final is not None:
            reply["error"] = "the run has ended: final_answer was called"
        elif self._calls > limit:
            reply["error"] = f"a snippet may make {limit} tool calls; this one made more"
        elif call.name not in self._tools:
            reply["error"] = f"there is no tool {call.name!r}"
        else:
            reply |= await self._ask(call)
        try:
            await self._send(reply)
        except (TypeError, ValueError, RecursionError) as error:  # nothing was sent; a FrameError is a ValueError
            text = f"the result of {call.name}: {_text_of(error)[:_MOST_TEXT]}"
            await self._send({"t": "result", "n": call.number, "error": text})

    async def _ask(self, call: Call) -> dict[str, Any]:
        self.clock.pause()
        try:
            made = await self._call_tool(call.name, call.args, call.kwargs)
            return {"value": encoded(made, tuples=True, huge=True)}
        except ValueTooLargeError as error:
            return {"error": f"the result of {call.name} cannot be passed: {error}"}
        except Exception as error:  # noqa: BLE001  # the contract: whatever a tool raises is told inside
            return {"error": _text_of(error)}
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled this run: something that the tool waited for was.
            return {"error": _text_of(error) if error.args else "the tool was cancelled"}
        finally:
            self.clock.resume()

    def _lost(self, kind: ExecutionKind, text: str) -> Execution:
        self._wire.kill()
        return self._outcome().lost(kind, text, stdout=self._link.printed(self._limits.stdout_bytes))

    def _outcome(self) -> Outcome:
        return Outcome(
            tier=self._tier,
            seed=self._seed,
            final=self._final,
            seconds=time.monotonic() - self._started,
            refused=self._link.refusals.take(),
            tool_calls=self._calls,
        )


def _text_of(error: BaseException) -> str:
    """What an exception says. It is a foreign object: its own methods may raise, and give anything."""
    try:
        message: object = getattr(error, "message", None)
        text = message if type(message) is str and message else str(error)
        return str.__str__(text) or type(error).__name__
    except Exception:  # noqa: BLE001  # as said
        return type(error).__name__
