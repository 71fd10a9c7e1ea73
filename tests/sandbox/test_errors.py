"""Errors that a model can mend: its own line, what it may have meant, what it printed before."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from wherry.sandbox import Execution, Session

pytestmark = pytest.mark.anyio
Run = Callable[[str], Coroutine[Any, Any, Execution]]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("total = 1\nprint(totl)", "Did you mean 'total'?"),
        ("Price = 1\nPRICE", "Did you mean 'Price'?"),
        ("'a'.uper()", "Did you mean 'upper'"),
        ("import jsn", "Did you mean 'json'"),
        ("from math import sqroot", "Did you mean 'sqrt'"),
        ("import numpy", "Only the standard library can be imported here"),
        ("row = {'price': 1}\nrow['pirce']", "Did you mean 'price'?"),
        ("rows = [{'price': 1, 'name': 2}]\nfor row in rows:\n    row['cost']", "There are: 'price', 'name'"),
        ("def f(d):\n    return d['Price']\nf({'price': 1})", "Did you mean 'price'?"),
        ("return 5", "call final_answer(value)"),
        ("x = (1,\n", "may have been cut short"),
        ("x = 'abc", "may have been cut short"),
        ("x = \u201cabc\u201d", "plain quotation marks"),
        ("echoo(1)", "Did you mean 'echo'?"),
        ("import asyncio\nawait asyncio.gather(echo(1), echo(2))", "echo, fail) are plain functions"),
        ("f = echo\nasync def g(): return await f(1)\nawait g()", "call them without await"),
        ("exit()", "final_answer(value) ends the run"),
        ("input('name?')", "Nobody can answer input() here"),
        ("fail()", "ToolError: boom"),
        ("echo(object())", "an argument of echo cannot be passed to a tool: a object is no data"),
        ("echo(n for n in range(20_000))", "more than 10,000 items"),
        ("x = []\nx.append(x)\necho(x)", "holds itself"),
    ],
)
async def test_message_helps_to_mend(run: Run, code: str, says: str) -> None:
    failed = await run(code)
    assert failed.kind == "exception"
    assert says in failed.error


async def test_line_of_the_snippet_is_marked(run: Run) -> None:
    failed = await run("import json\n\njson.loads('{')\nprint('never')")
    assert failed.error.startswith("Traceback (most recent call last):\n  line 3:\n  -> 3 | json.loads('{')\n")
    assert "  raised in json.decoder." in failed.error
    failed = await run("a = 1\nb = = 2")
    assert failed.error == "  line 2:\n  -> 2 | b = = 2\n             ^\nSyntaxError: invalid syntax"


async def test_prints_before_a_failure_are_kept(run: Run) -> None:
    failed = await run("print('before')\nimport sys\nprint('warned', file=sys.stderr)\n1 / 0")
    assert (failed.stdout, failed.stderr) == ("before\n", "warned\n")


@pytest.mark.slow
async def test_prints_before_a_kill_are_kept(session: Session, run: Run) -> None:
    await run("print('an earlier snippet')")
    killed = await run("import itertools\nprint('before')\nfor n in range(30_000): print(n)\n-1 in itertools.count()")
    assert killed.kind == "timeout"
    assert killed.stdout.startswith("before\n0\n1\n")
    assert "bytes left out" in killed.stdout
    assert killed.stdout.endswith("29998\n29999\n")
    assert not session.alive


async def test_no_descriptor_of_the_output_is_left_inside(run: Run) -> None:
    code = (
        "import os\nfound = []\nfor n in range(64):\n    try: os.fstat(n); found.append(n)\n    except OSError: pass\n"
    )
    assert (await run(code + "found")).value == [0, 1, 2, 3]


async def test_closed_output_is_opened_again(run: Run) -> None:
    await run("import sys\nprint('lost?')\nsys.stdout.close()")
    assert (await run("print('there')")).stdout == "there\n"


async def test_cause_is_told_unless_it_says_the_same(run: Run) -> None:
    told = await run("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('no') from e")
    assert "caused by ZeroDivisionError: division by zero\nValueError: no" in told.error
    same = await run("try:\n    {}['k']\nexcept KeyError as e:\n    raise KeyError('k') from e")
    assert "caused by" not in same.error


async def test_no_name_is_resolved_in_silence(run: Run) -> None:
    await run("value = 1")
    assert (await run("valeu = valu")).kind == "exception"
    assert (await run("'valeu' in globals()")).value is False


@pytest.mark.slow
async def test_time_and_memory_say_that_variables_are_kept(session: Session, run: Run) -> None:
    await run("kept = 1")
    slow = await run("while True: pass")
    assert slow.kind == "timeout"
    assert "-> 1 | while True: pass" in slow.error
    assert slow.error.endswith(
        "SnippetTimeout: the snippet ran into its time limit and was stopped; variables are kept"
    )
    large = await run("x = bytearray(4 << 30)")
    assert large.kind == "memory"
    assert "variables are kept" in large.error
    assert (await run("kept")).value == 1


async def test_tool_error_is_a_builtin_exception_of_its_own(run: Run) -> None:
    code = (
        "import builtins\ntry:\n    fail()\nexcept ToolError as e:\n    got = [str(e), type(e).__mro__[1].__name__]\n"
    )
    assert (await run(code + "[*got, ToolError is builtins.ToolError]")).value == ["boom", "Exception", True]


async def test_error_in_an_errors_own_text_is_survived(run: Run) -> None:
    failed = await run("class E(Exception):\n    def __str__(self): raise ValueError\nraise E()")
    assert failed.error.endswith("E: <its text cannot be shown: ValueError>")


async def test_await_of_a_tool_is_the_call_itself(run: Run) -> None:
    assert (await run("await echo(1)")).value == ["echo", [1], {}]
    assert (await run("async def f(x):\n    return await echo(x)\nimport asyncio\nasyncio.run(f(2))")).value[1] == [2]
    own = "async def mine(): return 7\necho = mine\nawait echo()"
    assert (await run(own)).value == 7


async def test_await_at_the_top_works(run: Run) -> None:
    code = """
import asyncio
async def twice(n):
    await asyncio.sleep(0)
    return 2 * n
both = await asyncio.gather(twice(1), twice(2))
async with asyncio.timeout(5):
    third = await twice(3)
[*both, third, await twice(4)]
"""
    assert (await run(code)).value == [2, 4, 6, 8]
    assert (await run("both, [n async for n in (x async for x in agen())]")).kind == "exception"
    failed = await run("await twice(5)\n1 / 0")
    assert "-> 2 | 1 / 0" in failed.error


async def test_final_answer_in_async_code_ends_the_run(run: Run) -> None:
    code = "async def f():\n    try: final_answer(1)\n    except BaseException: pass\n    final_answer(2)\n"
    ended = await run(code + "await f()")
    assert (ended.final, ended.value) == (True, 1)


async def test_coroutine_that_nobody_ran_says_so(run: Run) -> None:
    forgot = await run("async def f(): return 1\nf()")
    assert "write `await f(...)`" in forgot.value
    assert forgot.stderr == ""


@pytest.mark.slow
async def test_async_code_is_stopped_in_time(run: Run) -> None:
    slow = await run("import asyncio\nx = 1\nawait asyncio.sleep(60)")
    assert slow.kind == "timeout"
    assert (await run("x")).value == 1
