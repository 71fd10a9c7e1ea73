"""The loop that runs snippets. It has no power of its own: what a snippet may do is decided by the jail around it.

A snippet can break everything in here, since it runs in the same interpreter; the host then ends the session. The care
taken is for the snippets of honest models.
"""

from __future__ import annotations

import builtins
import io
import linecache
import mmap
import sys
import types
from collections.abc import Callable
from time import process_time
from typing import Any, NoReturn

from . import arrays, compiling, decoding, determinism, encoding, hints, tracebacks
from .channel import Channel, Interrupts, SnippetTimeout, frame
from .output import Capture, text_stream

GREETING = frame({"t": "ready"})
_SPARE = 2 << 20
"""Address space that is given back when memory runs out, so that there is room to say so. Never touched."""


class ToolError(Exception):
    """A tool failed; the message is the host's."""


class FinalAnswer(BaseException):
    """Ends the run. No `Exception`, so that `except Exception` does not swallow it."""


for _shown in (ToolError, SnippetTimeout, FinalAnswer):
    _shown.__module__ = "builtins"


def serve(
    source: int | Channel, *, stdout_bytes: int, packages: tuple[str, ...], memory: memoryview | None = None
) -> NoReturn:
    """Run snippets until the host hangs up.

    Args:
        source: the way to the host: a socket's descriptor, or what else carries frames.
        stdout_bytes: what is kept of a snippet's output.
        packages: modules beyond the standard library that can be imported here.
        memory: `shared_size(stdout_bytes)` bytes that the host can read when this process is gone.
    """
    # Functions look builtins up where their module says: a snippet that replaces `isinstance` must not reach this file.
    builtins.__dict__["ToolError"] = ToolError
    for module in (sys.modules[__name__], arrays, compiling, decoding, determinism, encoding, hints, tracebacks):
        module.__dict__["__builtins__"] = dict(vars(builtins))
    determinism.install()
    channel = Channel(source, Interrupts()) if isinstance(source, int) else source
    worker = Worker(channel, stdout_bytes, packages, memory)
    while True:
        worker.step()


class Worker:
    def __init__(
        self, channel: Channel, stdout_bytes: int, packages: tuple[str, ...], memory: memoryview | None = None
    ) -> None:
        self.channel = channel
        self.interrupts = channel.interrupts
        self.packages = packages
        self.module = types.ModuleType("__main__")
        self.scope = self.module.__dict__
        self.scope["__builtins__"] = builtins
        sys.modules["__main__"] = self.module  # pickle, dataclasses and inspect look there for what a snippet defined
        self.stdout_bytes, self.memory = stdout_bytes, memory
        self.captures = (Capture(stdout_bytes, memory), Capture(stdout_bytes))
        self.streams = tuple(text_stream(capture) for capture in self.captures)
        self.functions: dict[str, Callable[..., Any]] = {}
        self.count = 0
        self.calls = 0
        self.final = False
        self.trouble = ""
        self.spare = _spare()

    def step(self) -> None:
        with self.channel.lock:  # a thread left over from the last snippet may still wait for its tool's answer
            message = self.channel.receive()
        match message["t"]:
            case "run":
                self._run(message)
            case "set":
                self.scope[message["name"]] = message["value"]
            case "file":
                try:
                    _write_file(message)
                except OSError as error:
                    self.trouble = f"{message['name']}: {error.strerror}"
            case "sync":
                self.channel.send({"t": "ready", "trouble": self.trouble})
            case _:
                pass  # the answer to a tool call that was interrupted

    def _run(self, message: dict[str, Any]) -> None:
        started = process_time()
        self.final = False
        self._set_tools(message["tools"])
        self._set_streams()
        determinism.STATE.begin(message["seed"], message.get("clock"), partial=message.get("partial", False))
        reply = self._attempt(message["code"])
        readings = determinism.STATE.end()
        if readings:
            reply["clock"] = readings
        reply["t"], reply["id"] = "done", message["id"]
        reply["stdout"], reply["stderr"] = (capture.take() for capture in self.captures)
        reply["cpu"] = process_time() - started
        try:
            self.channel.send(reply)
        except encoding.ValueTooLargeError as error:
            self.channel.send({**reply, "value": f"[{error}]"})

    def _set_tools(self, names: list[str]) -> None:
        for name, function in self.functions.items():
            if name not in names and self.scope.get(name) is function:
                del self.scope[name]
        self.functions = {name: self.functions.get(name) or self._tool(name) for name in names}
        self.scope.update(self.functions)
        self.scope["final_answer"] = self._final_answer

    def _set_streams(self) -> None:
        if any(stream.closed for stream in self.streams):
            self.captures = (Capture(self.stdout_bytes, self.memory), Capture(self.stdout_bytes))
            self.streams = tuple(text_stream(capture) for capture in self.captures)
        sys.stdout, sys.stderr = self.streams
        sys.stdin = io.StringIO("")  # input() raises EOFError instead of waiting for nobody

    def _attempt(self, code: str) -> dict[str, Any]:
        try:
            self.interrupts.arm()
            try:
                reply = self._execute(code)
            except FinalAnswer:
                reply = {}
            except BaseException as error:  # noqa: BLE001  # sys.exit and all: nothing ends the loop but the host
                reply = self._failure(error)
            self.interrupts.armed = False
        except SnippetTimeout as late:  # it was the description of the error that took too long
            reply = {"kind": "timeout", "error": f"SnippetTimeout: {late}"}
        return {} if self.final else reply

    def _execute(self, code: str) -> dict[str, Any]:
        self.count += 1
        filename = f"{compiling.PREFIX}{self.count}>"
        # For tracebacks and inspect.getsource. Without a modification time it is never checked against a file.
        linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
        value = compiling.execute(code, filename, self.scope, self.functions)
        return {} if value is None else {"value": self._value(value), "has_value": True}

    def _value(self, value: object) -> Any:
        try:
            return compiling.discard(value) or encoding.encode(value)
        except encoding.ValueTooLargeError as error:
            return f"{encoding.bounded_repr(value)} [{error}]"

    def _failure(self, error: BaseException) -> dict[str, Any]:
        kind = "memory" if isinstance(error, MemoryError) else "exception"
        if kind == "memory":
            self.spare = None
        text = tracebacks.describe(error, packages=self.packages, tools=self.functions)
        if self.interrupts.hit:
            kind = "timeout"
        error.__traceback__ = None  # lets go of the frames, and with them of what filled the memory
        if kind == "memory":
            text += ": the memory limit was reached; variables are kept, free what is large with `del`"
            self.spare = _spare()
        return {"kind": kind, "error": text}

    def _final_answer(self, value: object = None, **named: object) -> NoReturn:
        if not self.final:
            # The tool of the same name calls its argument `answer`, and models mix the two up.
            if named:
                if value is not None or named.keys() != {"answer"}:
                    raise TypeError("final_answer takes one value")
                value = named["answer"]
            try:
                self.channel.send({"t": "final", "value": encoding.encode(value, drain=True)})
            except encoding.ValueTooLargeError as error:
                text = "give a part of it as the final answer, or write it to a file: files are kept"
                raise ValueError(f"{error}: {text}") from None
            self.final = True
        raise FinalAnswer

    def _tool(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        call.__module__ = "__main__"
        return call

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.final:
            raise FinalAnswer
        with self.channel.lock:
            self.calls += 1
            number = self.calls
            try:
                given = encoding.encode((args, kwargs), strict=True, drain=True)
                self.channel.send({"t": "call", "n": number, "name": name, "args": given[0], "kw": given[1]})
            except encoding.NoFormError as error:
                raise TypeError(f"an argument of {name} cannot be passed to a tool: {error}") from None
            except encoding.ValueTooLargeError as error:
                raise ValueError(f"the arguments of {name} cannot be passed: {error}") from None
            while True:
                answer = self.channel.receive()
                if answer.get("t") == "result" and answer.get("n") == number:
                    break
        if "error" in answer:
            raise ToolError(answer["error"])
        return answer["value"]


def _spare() -> mmap.mmap | None:
    try:
        return mmap.mmap(-1, _SPARE)
    except (MemoryError, OSError):  # there is none left, or, in WebAssembly, no such call
        return None


def _write_file(message: dict[str, Any]) -> None:
    import base64  # most sessions get no file
    import os

    folder = os.path.dirname(message["name"])
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(message["name"], "ab") as file:
        file.write(base64.b64decode(message["data"]))
