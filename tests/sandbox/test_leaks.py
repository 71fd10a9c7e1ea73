"""However sessions end, nothing is left of them: no process, descriptor, mount or folder."""

from __future__ import annotations

import gc
import os
import random
import tempfile
from pathlib import Path

import anyio
import psutil
import pytest

from wherry.errors import SandboxUnavailable
from wherry.sandbox import SandboxLimits, get_sandbox

ENDINGS = ("1", "final_answer(1)", "1/0", "import os; os._exit(3)", "import os; os.write(3, b'\\xff' * 64)", None)


def standing() -> tuple[int, int, int, set[str]]:
    gc.collect()  # sessions of other tests that nobody closed
    mounts = len(Path("/proc/self/mounts").read_text().splitlines())
    folders = {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("wherry-")}
    return len(os.listdir("/proc/self/fd")), len(psutil.Process().children(recursive=True)), mounts, folders


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_sessions_leave_nothing(count: int) -> None:
    chance = random.Random(7)

    async def tool(*_: object) -> None:
        return None

    async def main() -> None:
        # Its own limits, and so its own launcher: other tests' sessions would be counted too.
        try:
            sandbox = get_sandbox("namespaces", limits=SandboxLimits(wall_seconds=3))
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        await (await sandbox.open(tools=[])).close()
        for _ in range(count):
            session = await sandbox.open(tools=[])
            code = chance.choice(ENDINGS)
            if code is not None:
                await session.run(code, call_tool=tool)
            await session.close()
        await sandbox.close()

    before = standing()
    anyio.run(main)
    after = standing()
    assert after[:3] == before[:3]
    assert after[3] <= before[3]
