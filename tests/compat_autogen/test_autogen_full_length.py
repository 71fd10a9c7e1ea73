"""The same programs at their full length against a real llama.cpp server with a window of 2,048 tokens.

`python -m pytest -m bench tests/compat_autogen -s -o faulthandler_timeout=3600` prints turns, seconds and memory; it
takes a quarter of an hour and more. What is changed of a program: its import line, the key of the server for the dots,
a bound of its replies (two cores write slowly; the requests are what matters), and a line that takes the size of the
process.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.compat_autogen import test_autogen_llama_cpp as short_form
from tests.compat_autogen.test_autogen_seed import GROUP, GROWING, POLICIES, REPORT, TOOL_RESULT, TRIMMED, program

store = short_form.store

pytestmark = [
    pytest.mark.bench,
    pytest.mark.local_model,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_GROWN = 24 * 2**20
"""Bytes that a process may become larger between the twentieth turn and the last: a leak of one request is 100 kB."""

_REPLY = 24
"""Tokens."""
_REPORT = 200
"""Characters of the report in each turn: 100 turns are six windows."""

SUMMARY = TOOL_RESULT.replace(
    'tool_result = fetch_claim_history("CLM-123")',
    'tool_result = fetch_claim_history("CLM-123")\n'
    "summarize_claim_history = lambda raw: raw[:200]\n"
    "tool_result = summarize_claim_history(tool_result)",
)
TWO = GROUP.replace(
    'agent1, agent2, agent3 = (AssistantAgent(name=f"agent{n}", llm_config=llm_config) for n in (1, 2, 3))',
    'agent1, agent2 = (AssistantAgent(name=f"agent{n}", llm_config=llm_config) for n in (1, 2))',
).replace(
    "agents=[agent1, agent2, agent3], messages=[], max_round=20", "agents=[agent1, agent2], messages=[], max_round=6"
)


def bounded(text: str) -> str:
    """The program with the server's key where it has dots, and with replies of a line."""
    keyed = text.replace('"api_key": "..."', f'"api_key": {os.environ["OPENAI_API_KEY"]!r}')
    return keyed.replace('"api_key": ', f'"max_tokens": {_REPLY}, "api_key": ')


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@dataclass
class Gauge:
    """The size of the process by turns."""

    name: str
    url: str
    begun: float = field(default_factory=time.monotonic)
    sizes: list[int] = field(default_factory=list[int])

    def note(self, _turn: object = None) -> None:
        gc.collect()
        self.sizes.append(resident())

    def report(self, turns: int) -> None:
        self.note()
        failed = short_form.failures(self.url)
        early = self.sizes[min(20, len(self.sizes) - 1)]
        sys.stdout.write(
            f"\n{self.name}: {turns} turns, {time.monotonic() - self.begun:.0f} s, "
            f"{len(failed)} failures {failed[:3]}, "
            f"memory {self.sizes[0] / 2**20:.1f} MB at the beginning, {early / 2**20:.1f} after 20 turns, "
            f"{self.sizes[-1] / 2**20:.1f} at the end\n"
        )
        sys.stdout.flush()
        assert failed == []


@pytest.mark.parametrize(("name", "text"), [("a list that grows", GROWING), ("a list that is cut", TRIMMED)])
def test_a_hundred_turns(name: str, text: str, store: str) -> None:
    gauge = Gauge(name, store)
    measured = bounded(text).replace("    reply = ", "    note(i); reply = ")
    space = program(measured, REPORT=REPORT[:_REPORT], note=gauge.note)
    messages: list[dict[str, Any]] = space["messages"]
    gauge.report(len(messages) // 2)
    replies = [message["content"] for message in messages[1::2]]
    assert len(replies) == 100
    assert all(isinstance(reply, str) and reply.strip() for reply in replies)
    assert all(message["content"].endswith(REPORT[:_REPORT]) for message in messages[::2])
    own = sum(sys.getsizeof(message["content"]) for message in messages[40:])
    assert gauge.sizes[-1] - gauge.sizes[20] - own < _GROWN
    sys.stdout.write("".join(f"  {n}: {replies[n][:160]!r}\n" for n in (0, 49, 99)))


@pytest.mark.parametrize(("name", "text"), [("a result of 5 MB", TOOL_RESULT), ("its summary", SUMMARY)])
def test_a_tool_result(name: str, text: str, store: str, tmp_path: Path) -> None:
    history = [{"claim": f"CLM-{n}", "state": "closed", "paid": n * 7 % 1000} for n in range(100_000)]
    (tmp_path / "CLM-123.json").write_text(json.dumps(history))
    assert (tmp_path / "CLM-123.json").stat().st_size > 5_000_000
    gauge = Gauge(name, store)
    gauge.note()
    reply = program(bounded(text), FOLDER=tmp_path)["reply"]
    gauge.report(1)
    assert isinstance(reply, str)
    assert reply.strip()
    sys.stdout.write(f"  {reply[:300]!r}\n")


def test_a_system_prompt_of_all_policies(store: str, tmp_path: Path) -> None:
    parts = [
        f"# Policy {n}\n" + f"Rule {n} concerns thing number {n * 13 % 977} and no other. " * 15 for n in range(420)
    ]
    parts[200] += "\n# Receipts\nReceipts of marmalade are kept for 4,711 days.\n"
    (tmp_path / "all_company_policies.txt").write_text("\n\n".join(parts))
    assert (tmp_path / "all_company_policies.txt").stat().st_size > 300_000
    gauge = Gauge("a system prompt of 300 kB", store)
    gauge.note()
    reply = program(bounded(POLICIES), FOLDER=tmp_path)["reply"]
    gauge.report(1)
    sys.stdout.write(f"  {reply[:300]!r}\n")
    assert "4,711" in reply


@pytest.mark.parametrize(("name", "text", "rounds"), [("a group of three", GROUP, 20), ("a group of two", TWO, 6)])
def test_a_group(name: str, text: str, rounds: int, store: str) -> None:
    gauge = Gauge(name, store)
    gauge.note()
    messages: list[dict[str, Any]] = program(bounded(text), REPORT=REPORT[:_REPORT])["groupchat"].messages
    gauge.report(len(messages))
    assert len(messages) <= rounds
    assert len(messages) == rounds or "TERMINATE" in messages[-1]["content"]
    sys.stdout.write("".join(f"  {message['name']}: {message['content'][:100]!r}\n" for message in messages[-3:]))
