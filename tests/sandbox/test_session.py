"""What a user of a session sees: values, errors, limits, endings."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from wherry.errors import ConfigurationError, SandboxError
from wherry.sandbox import Execution, Sandbox, SandboxLimits, Session, get_sandbox
from wherry.sandbox.values import Encoded

pytestmark = pytest.mark.anyio
Run = Callable[[str], Coroutine[Any, Any, Execution]]


async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Answers as the fixture `run` does."""
    return [name, args, kwargs]


async def test_error_shows_the_snippets_own_frames_and_lines(run: Run) -> None:
    await run("def half(x):\n    return x / 0")
    failed = await run("a = 1\nhalf(a)")
    assert failed.error == (
        "Traceback (most recent call last):\n"
        "  line 2 of snippet 2:\n"
        "  -> 2 | half(a)\n"
        "  line 2, in half:\n"
        "  -> 2 |     return x / 0\n"
        "ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("total = 1\nprint(totl)", "'total'"),
        ("'a'.uper()", "'upper'"),
        ("import jsn", "'json'"),
        ("import numpy", "Only the standard library can be imported here"),
    ],
)
async def test_error_suggests_what_comes_close(run: Run, code: str, hint: str) -> None:
    assert hint in (await run(code)).error


async def test_main_module_is_the_snippets_own(run: Run) -> None:
    await run(
        "import dataclasses, pickle, inspect\n@dataclasses.dataclass\nclass P:\n    x: int\ndef f():\n    return 1"
    )
    kept = await run("pickle.loads(pickle.dumps(P(3))).x, __name__, inspect.getsource(f)")
    assert kept.value == [3, "__main__", "def f():\n    return 1"]


async def test_memory_error_leaves_the_session_alive(run: Run) -> None:
    assert (await run("x = bytearray(4 << 30)")).kind == "memory"
    assert (await run("1 + 1")).value == 2


async def test_memory_that_was_taken_can_be_given_back(jail: Sandbox) -> None:
    # Time enough for a machine that has to find the memory first.
    patient = get_sandbox("namespaces", limits=SandboxLimits(wall_seconds=30))
    session = await patient.open(tools=[])
    taken = await session.run("kept = []\nwhile True: kept.append(bytearray(8 << 20))", call_tool=answer)
    assert taken.kind == "memory"
    assert (await session.run("len(kept) > 10, kept.clear()", call_tool=answer)).ok
    assert (await session.run("len(bytearray(64 << 20))", call_tool=answer)).value == 64 << 20
    await session.close()


@pytest.mark.slow
async def test_c_loop_that_never_looks_up_is_killed(session: Session) -> None:
    stuck = await session.run("import itertools\n-1 in itertools.count()", call_tool=answer)
    assert stuck.kind == "timeout"
    assert not session.alive
    with pytest.raises(SandboxError, match="dead"):
        await session.run("1", call_tool=answer)


@pytest.mark.slow
async def test_snippet_that_was_told_to_stop_gains_no_time_by_calling_a_tool(session: Session) -> None:
    code = "import time\ntry: time.sleep(60)\nexcept BaseException: pass\necho()\nwhile True: pass"
    with anyio.fail_after(20):
        stuck = await session.run(code, call_tool=answer)
    assert stuck.kind == "timeout"
    assert not session.alive


async def test_threads_that_were_left_over_stand_still_between_snippets(run: Run) -> None:
    code = """
import threading, time
count = 0
def spin():
    global count
    while True: count += 1
threading.Thread(target=spin, daemon=True).start()
"""
    await run(code)
    before = (await run("count")).value
    await asyncio.sleep(0.3)  # not a wait for something to happen: what is tested is that nothing does
    spent = (await run("time.process_time()")).value
    assert isinstance(before, int)
    assert isinstance(spent, float)
    assert spent < 0.25


@pytest.mark.slow
async def test_wall_clock_stands_while_the_host_answers(session: Session) -> None:
    async def slow(name: str, args: list[Any], kwargs: dict[str, Any]) -> str:
        await asyncio.sleep(2.2)  # over the limit of two seconds: what is tested is time itself
        return "late"

    assert (await session.run("echo()", call_tool=slow)).value == "late"


async def test_cancelling_interrupts_and_keeps_variables(session: Session, run: Run) -> None:
    await run("kept = 1")
    asked = asyncio.Event()

    async def tell(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        asked.set()

    task = asyncio.create_task(session.run("echo()\nwhile True: pass", call_tool=tell))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await run("kept")).value == 1


async def test_cancelling_in_a_tool_call_keeps_the_wire_in_step(session: Session, run: Run) -> None:
    asked = asyncio.Event()

    async def never(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: session.run("echo()", call_tool=never))
        await asked.wait()
        group.cancel_scope.cancel()
    assert (await run("echo(2)")).value == ["echo", [2], {}]


async def test_cancelling_a_stubborn_snippet_kills(session: Session) -> None:
    asked = asyncio.Event()

    async def tell(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        asked.set()

    code = (
        "import itertools, time\ntry:\n    echo()\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
        "-1 in itertools.count()"
    )
    task = asyncio.create_task(session.run(code, call_tool=tell))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session.alive


async def test_interrupt_stops_the_snippet(session: Session) -> None:
    async def stop(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        asyncio.get_running_loop().call_soon(session.interrupt)

    stopped = await session.run("echo()\nwhile True: pass", call_tool=stop)
    assert stopped.kind == "timeout"
    assert "interrupted" in stopped.error


@pytest.mark.slow
async def test_final_answer_counts_even_if_the_snippet_must_be_killed(session: Session) -> None:
    code = "import itertools\ntry:\n    final_answer([1])\nfinally:\n    -1 in itertools.count()"
    ended = await session.run(code, call_tool=answer)
    assert (ended.ok, ended.final, ended.value, ended.kind) == (True, True, [1], None)
    assert not session.alive


async def test_tools_are_refused_after_the_final_answer(session: Session) -> None:
    called: list[str] = []

    async def note(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        called.append(name)

    code = "try:\n    final_answer(1)\nexcept BaseException:\n    pass\necho()"
    assert (await session.run(code, call_tool=note)).final
    assert called == []


async def test_calls_over_the_cap_are_refused(run: Run) -> None:
    capped = await run(
        "n = 0\nfor i in range(120):\n    try:\n        echo(); n += 1\n    except ToolError:\n        pass\nn"
    )
    assert capped.value == 100
    assert (await run("echo(1)[1]")).value == [1]


async def test_refused_calls_are_named(run: Run) -> None:
    tried = await run("import socket, os\nfor f in (socket.socket, os.fork):\n    try: f()\n    except OSError: pass")
    assert [line.split("(")[0] for line in tried.refused] == ["socket", "clone"]
    assert (await run("1")).refused == ()


async def test_flood_of_refused_calls_ends_the_session(run: Run) -> None:
    assert (await run("import os\nwhile True:\n    try: os.chroot('/')\n    except OSError: pass")).kind == "refused"


async def test_datagram_pair_cannot_be_made(run: Run) -> None:
    """A datagram socket could be aimed at any socket file that is in view."""
    made = await run("import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)")
    assert "PermissionError" in made.error


async def test_threads_are_bounded(run: Run) -> None:
    code = """
import threading
gate, made = threading.Event(), 0
try:
    for made in range(200):
        threading.Thread(target=gate.wait, daemon=True).start()
except RuntimeError:
    pass
gate.set()
made
"""
    made = (await run(code)).value
    assert isinstance(made, int)
    assert made <= 16


async def test_tool_called_in_threads(run: Run) -> None:
    code = """
import threading
got = []
threads = [threading.Thread(target=lambda i=i: got.append(echo(i)[1][0])) for i in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sorted(got)
"""
    assert (await run(code)).value == list(range(8))


async def test_host_packages_are_not_in_view(run: Run) -> None:
    code = """
import os, sys
folders = [os.path.join(path, 'site-packages') for path in sys.path]
[os.listdir(folder) for folder in folders if os.path.isdir(folder)]
"""
    assert (await run(code)).value in ([], [[]])


async def test_ordinary_modules_work(run: Run) -> None:
    code = """
import sqlite3, tempfile, shutil, zipfile, pathlib, asyncio
db = sqlite3.connect('x.db'); db.execute('create table t(a)'); db.commit()
pathlib.Path('a').write_text('1'); shutil.copy2('a', 'b')
with zipfile.ZipFile('z.zip', 'w') as z: z.write('a')
with tempfile.NamedTemporaryFile() as f: f.write(b'1')
async def main(): return await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(lambda: 2))
asyncio.run(main())
"""
    done = await run(code)
    assert done.value == [1, 2], done.error


async def test_values_inside_stay_within_a_frame(run: Run) -> None:
    large = await run("'v' * (9 << 20)")
    assert large.ok
    assert len(str(large.value)) < 10_000
    assert "MiB" in (await run("echo('v' * (9 << 20))")).error


async def test_result_that_fits_no_frame_is_told_inside(session: Session) -> None:
    async def large(name: str, args: list[Any], kwargs: dict[str, Any]) -> str:
        return "v" * (9 << 20)

    assert "larger than 7 MiB" in (await session.run("echo()", call_tool=large)).error


async def test_files_and_variables_go_in(jail: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 10_000)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/note.txt").write_text("hello")
    opened = await jail.open(tools=[], variables={"n": 3}, files=[tmp_path / "data.bin", tmp_path / "sub"])
    code = "n, len(open('data.bin','rb').read()), open('sub/note.txt').read()"
    assert (await opened.run(code, call_tool=answer)).value == [3, 2_560_000, "hello"]
    await opened.close()


@pytest.mark.parametrize("name", ["not a name", "class", ""])
async def test_tool_names_are_checked(jail: Sandbox, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no Python name"):
        await jail.open(tools=[name])


async def test_missing_file_is_said(jail: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no file at"):
        await jail.open(tools=[], files=[tmp_path / "none"])


async def test_unknown_tier_and_packages_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no sandbox tier"):
        get_sandbox("dokcer")
    with pytest.raises(ConfigurationError, match="is no package"):
        get_sandbox("namespaces", packages=["../numpy"])


async def test_limits_are_validated() -> None:
    with pytest.raises(ConfigurationError, match="`wall_seconds`"):
        SandboxLimits(wall_seconds=0)
    with pytest.raises(ConfigurationError, match="`memory_bytes`"):
        SandboxLimits(memory_bytes=True)


async def test_sessions_of_one_sandbox_run_side_by_side(jail: Sandbox) -> None:
    sessions = [await jail.open(tools=["echo"]) for _ in range(4)]
    results = await asyncio.gather(*[s.run(f"echo({i})", call_tool=answer) for i, s in enumerate(sessions)])
    assert [execution.value for execution in results] == [["echo", [i], {}] for i in range(4)]
    for opened in sessions:
        await opened.close()


def test_one_sandbox_serves_several_loops(jail: Sandbox) -> None:
    async def once() -> object:
        opened = await jail.open(tools=[])
        value = (await opened.run("6*7", call_tool=answer)).value
        await opened.close()
        return value

    assert [anyio.run(once), anyio.run(once)] == [42, 42]


HOST = """
import asyncio, sys
from wherry.sandbox import get_sandbox
async def tool(*_): print('ready', flush=True)
async def main():
    session = await get_sandbox('namespaces').open(tools=['ready'])
    await session.run('ready()\\nwhile True: pass', call_tool=tool)
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_the_host(jail: Sandbox, number: signal.Signals) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert host.stdout is not None
    assert host.stdout.readline() == b"ready\n"
    inside = psutil.Process(host.pid).children(recursive=True)
    assert len(inside) >= 3
    os.kill(host.pid, number)
    host.wait(10)
    host.stdout.close()
    _, alive = psutil.wait_procs(inside, timeout=5)
    assert alive == []


class Odd(Exception):
    def __init__(self, message: object) -> None:
        self.message = message


class Method(Exception):
    def message(self) -> str:
        return "never asked"


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Trap(Exception):
    @property
    def message(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Method("said"), "said"),
        (Odd(b"bytes"), "bytes"),
        (Odd({1}), "{1}"),
        (Odd("text"), "text"),
        (Mute(), "Mute"),
        (Trap("x"), "Trap"),
        (asyncio.CancelledError(), "cancelled"),
        (asyncio.CancelledError("by the tool"), "by the tool"),
        (KeyError(), "KeyError"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whatever_a_tool_raises_is_a_tool_error_inside(session: Session, error: BaseException, told: str) -> None:
    async def fails(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        raise error

    got = await session.run("try:\n    echo()\nexcept ToolError as e:\n    got = str(e)\ngot", call_tool=fails)
    assert got.ok, got.error
    assert told in got.value
    assert (await session.run("1", call_tool=answer)).value == 1


async def test_a_tool_whose_own_task_was_cancelled_does_not_cancel_the_run(session: Session) -> None:
    async def fails(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    assert "ToolError: the tool was cancelled" in (await session.run("echo()", call_tool=fails)).error


async def test_a_result_that_is_no_json_is_told_inside(session: Session) -> None:
    async def gives(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return Encoded(object())

    assert "ToolError: the result of echo: " in (await session.run("echo()", call_tool=gives)).error
    assert (await session.run("1", call_tool=answer)).value == 1
