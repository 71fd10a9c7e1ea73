"""A process that writes journals is killed, over and over; what it left verifies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.errors import StoreError
from wherry.journal import EventType, Journal, verify_store
from wherry.store import open_store

WRITER = """
import asyncio, sys
from wherry.journal import EventType, Journal
from wherry.messages import Message
from wherry.store import open_store

async def main():
    store = open_store(sys.argv[1])
    for number in range(10**9):
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="t", session="s")
        for n in range(8):
            names = [journal.keep(Message("user", f"{journal.run_id} {n} {k}")) for k in range(2)]
            journal.record(EventType.MODEL_REQUESTED, keep=2 * n, add=names)
            journal.send()
            text = f"{journal.run_id} {n // 2}".encode() * 50
            ref = store.artifacts.put(text, media_type="text/plain", run_id=journal.run_id)
            journal.record(EventType.CONTEXT_OFFLOADED, ref=ref.ref)
            await journal.commit()
            print(journal.run_id, 2 * n + 3, ref.ref, flush=True)
        journal.record(EventType.RUN_FINISHED, status="completed")
        await journal.commit()
        store.save_session("s", b"state")
        if number % 3 == 2:
            store.artifacts.reclaim(journal.run_id)

asyncio.run(main())
"""


@pytest.mark.parametrize("times", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_what_a_killed_process_left_verifies_and_is_gone_on_with(tmp_path: Path, times: int) -> None:
    url = f"sqlite:///{tmp_path}/w.db"
    dice = random.Random(times)
    for _ in range(times):
        reported: dict[str, int] = {}
        refs: dict[str, str] = {}
        with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = dice.randint(1, 60)
            for n, line in enumerate(writer.stdout):
                run_id, seq, ref = line.split()
                reported[run_id], refs[ref] = int(seq), run_id
                if n == lines:
                    os.kill(writer.pid, signal.SIGKILL)
        store = open_store(url)
        assert verify_store(store).breaks == []
        for run_id, seq in reported.items():
            last = store.last_event(run_id)
            assert last is not None
            assert last.seq >= seq
        for ref, run_id in refs.items():
            try:
                store.artifacts.info(ref)
            except StoreError:
                continue  # it was reclaimed
            assert run_id.encode() in store.artifacts.read(ref)
        for run in store.runs(limit=1000):
            if run.finished is None:
                journal = Journal.go_on(store, run.run_id)
                journal.record(EventType.RUN_FINISHED, status="failed")
                journal.send()
        assert verify_store(store).breaks == []
        assert all(run.finished for run in store.runs(limit=1000))
        store.close()
