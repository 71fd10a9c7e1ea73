"""A tier of wherry's: `python code_on_wherry.py TIER`."""

from __future__ import annotations

import asyncio
import sys
import time

import snippets

from wherry.sandbox import SandboxLimits, get_sandbox


async def tool(*_: object) -> int:
    return 1


started = time.perf_counter()
loop = asyncio.new_event_loop()
sandbox = get_sandbox(sys.argv[1], limits=SandboxLimits(tool_calls=1000))
session = loop.run_until_complete(sandbox.open(tools=["tool"]))


def run(text: str) -> object:
    execution = loop.run_until_complete(session.run(text, call_tool=tool))
    assert execution.ok, execution.error
    return execution.value


snippets.measure(run, started=started)
loop.run_until_complete(session.close())
loop.run_until_complete(sandbox.close())
