"""Programs that die of their own history elsewhere, with nothing but their import line changed."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.compat_autogen.window_server import said, texts, window_server

REPORT = " ".join(f"Line {n}: the claim {n * 37 % 1000} of branch {n % 9} is open." for n in range(30))

GROWING = """
import os
from autogen import AssistantAgent

assistant = AssistantAgent(
    name="assistant",
    llm_config={
        "config_list": [{"model": "gpt-4o-mini", "api_key": os.environ["OPENAI_API_KEY"]}]
    },
)

messages = []
for i in range(100):
    messages.append({"role": "user", "content": f"Turn {i}: analyze this report... " + REPORT})
    reply = assistant.generate_reply(messages=messages)
    messages.append({"role": "assistant", "content": reply})
"""

TRIMMED = """
import os
from autogen import AssistantAgent

assistant = AssistantAgent(
    name="assistant",
    llm_config={
        "config_list": [{"model": "gpt-4o-mini", "api_key": os.environ["OPENAI_API_KEY"]}]
    },
)

def trim_messages(messages, keep_last=8):
    return messages[-keep_last:]

messages = []
for i in range(100):
    messages.append({"role": "user", "content": f"Turn {i}: analyze this report... " + REPORT})
    trimmed = trim_messages(messages)
    reply = assistant.generate_reply(messages=trimmed)
    messages.append({"role": "assistant", "content": reply})
"""

TOOL_RESULT = """
import os
from autogen import AssistantAgent

assistant = AssistantAgent(
    name="assistant",
    llm_config={"config_list": [{"model": "llama3-8b", "api_key": "..."}], "temperature": 0.2},
)
messages = [{"role": "user", "content": "What is the state of claim CLM-123?"}]

def fetch_claim_history(claim_id):
    return open(f"{FOLDER}/{claim_id}.json").read()

tool_result = fetch_claim_history("CLM-123")
messages.append({"role": "tool", "content": tool_result})
reply = assistant.generate_reply(messages=messages)
"""

POLICIES = """
from autogen import AssistantAgent

llm_config = {"config_list": [{"model": "gpt-4o-mini", "api_key": "..."}], "temperature": 0.2}
system_prompt = open(f"{FOLDER}/all_company_policies.txt").read()
assistant = AssistantAgent(
    name="assistant",
    system_message=system_prompt,
    llm_config=llm_config,
)
reply = assistant.generate_reply(messages=[{"role": "user", "content": "How many days do we keep marmalade receipts?"}])
"""

GROUP = """
from autogen import AssistantAgent, GroupChat, GroupChatManager

llm_config = {"config_list": [{"model": "gpt-4o-mini", "api_key": "..."}]}
agent1, agent2, agent3 = (AssistantAgent(name=f"agent{n}", llm_config=llm_config) for n in (1, 2, 3))

groupchat = GroupChat(agents=[agent1, agent2, agent3], messages=[], max_round=20)
manager = GroupChatManager(groupchat=groupchat, llm_config=llm_config)
result = agent1.initiate_chat(manager, message="Discuss the report. " + REPORT)
for m in groupchat.messages:
    print(m["role"], len(m["content"]))
"""


def program(text: str, **given: Any) -> dict[str, Any]:
    """Run a program, its import line changed."""
    changed = text.replace("from autogen import", "from wherry.compat.autogen import")
    assert changed != text
    space: dict[str, Any] = {"REPORT": REPORT, **given}
    exec(compile(changed, "program", "exec"), space)
    return space


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files left open


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")
    monkeypatch.setenv("OPENAI_API_KEY", "key")


def serve(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)


@pytest.mark.slow
@pytest.mark.parametrize("text", [GROWING, TRIMMED])
def test_a_hundred_turns(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = iter(range(1000))
    with window_server(lambda _: said(f"Answer {next(number)}. " + REPORT[:600])) as server:
        serve(monkeypatch, server.url)
        space = program(text)
    assert [message["role"] for message in space["messages"]] == ["user", "assistant"] * 100
    assert space["messages"][-1]["content"].startswith("Answer 99.")
    assert len(server.seen) == 100
    for turn, sent in enumerate(server.seen):
        assert f"Turn {turn}:" in str(sent.body["messages"][-1]["content"])


@pytest.mark.slow
def test_the_list_stays_the_programs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with window_server() as server:
        serve(monkeypatch, server.url)
        space = program(GROWING)
    assert all(message["content"].endswith(REPORT) for message in space["messages"][::2])
    assert {*space["messages"][0]} == {"role", "content"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHERRY_STORE", f"sqlite:///{tmp_path}/runs.db")
    text = GROWING.replace("    reply = ", "    note(i); reply = ")
    sizes: dict[int, int] = {}
    own: dict[int, int] = {}
    space: dict[str, Any] = {}

    def note(turn: int) -> None:
        if turn in (50, 99):
            sizes[turn] = tracemalloc.get_traced_memory()[0]
            own[turn] = sum(len(message["content"]) for message in space["messages"])

    with window_server() as server:
        serve(monkeypatch, server.url)
        server.seen = _Forgetful()
        space.update({"REPORT": REPORT, "note": note})
        changed = text.replace("from autogen import", "from wherry.compat.autogen import")
        tracemalloc.start()
        try:
            exec(compile(changed, "program", "exec"), space)
        finally:
            tracemalloc.stop()
    grown = sizes[99] - sizes[50] - (own[99] - own[50])
    assert grown < 1_000_000


class _Forgetful(list[Any]):
    def append(self, item: Any, /) -> None:
        return


def test_a_tool_result_of_five_megabytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    history = [{"claim": f"CLM-{n}", "state": "closed", "paid": n * 7 % 1000} for n in range(100_000)]
    (tmp_path / "CLM-123.json").write_text(json.dumps(history))
    assert (tmp_path / "CLM-123.json").stat().st_size > 4_500_000
    with window_server(lambda _: said("It is closed.")) as server:
        serve(monkeypatch, server.url)
        space = program(TOOL_RESULT, FOLDER=tmp_path)
    assert space["reply"] == "It is closed."
    (sent,) = server.seen
    assert "What is the state of claim CLM-123?" in texts(sent.body)
    assert "CLM-0" in texts(sent.body)
    assert sent.body["temperature"] == 0.2


def test_a_system_prompt_of_all_policies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = [
        f"# Policy {n}\n" + f"Rule {n} concerns thing number {n * 13 % 977} and no other. " * 15 for n in range(420)
    ]
    parts[200] += "\n# Receipts\nReceipts of marmalade are kept for 4,711 days.\n"
    (tmp_path / "all_company_policies.txt").write_text("\n\n".join(parts))
    assert (tmp_path / "all_company_policies.txt").stat().st_size > 300_000
    with window_server(lambda _: said("4,711 days.")) as server:
        serve(monkeypatch, server.url)
        space = program(POLICIES, FOLDER=tmp_path)
    assert space["reply"] == "4,711 days."
    (sent,) = server.seen
    assert "marmalade are kept for 4,711 days" in sent.body["messages"][0]["content"]
    assert sent.body["messages"][-1]["content"] == "How many days do we keep marmalade receipts?"


def test_a_group_of_three(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    turn = iter(range(1000))

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if "choose" in body["messages"][0]["content"]:
            return said(f"agent{next(turn) % 3 + 1}")
        return said("I see it so: " + REPORT)

    with window_server(reply) as server:
        serve(monkeypatch, server.url)
        space = program(GROUP)
    messages = space["groupchat"].messages
    assert len(messages) == 20
    assert [message["name"] for message in messages[1:4]] == ["agent1", "agent2", "agent3"]
    assert space["result"].chat_history[0]["content"].startswith("Discuss the report.")
    assert capsys.readouterr().out.splitlines()[-1].startswith("user ")
