"""A sandbox for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import pytest
from tests.sandbox.containers import Engine, start_engine

from wherry.errors import SandboxUnavailable
from wherry.sandbox import Execution, Sandbox, SandboxLimits, Session, get_sandbox

Run = Callable[[str], Coroutine[Any, Any, Execution]]


async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if name == "fail":
        raise ValueError("boom")
    return [name, args, kwargs]


@pytest.fixture
def jail() -> Sandbox:
    try:
        return get_sandbox("namespaces", limits=SandboxLimits(wall_seconds=2))
    except SandboxUnavailable as error:
        pytest.skip(error.message)


@pytest.fixture
async def session(jail: Sandbox, anyio_backend: str) -> AsyncIterator[Session]:
    opened = await jail.open(tools=["echo", "fail"])
    yield opened
    await opened.close()


@pytest.fixture
def run(session: Session) -> Run:
    async def run(code: str) -> Execution:
        return await session.run(code, call_tool=answer)

    return run


@pytest.fixture(scope="session")
def engine() -> Generator[Engine]:
    """A container engine with an image of this machine's Python; see `containers`."""
    with start_engine() as started:
        yield started
