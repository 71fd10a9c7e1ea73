"""Runtime logging: the tables that programs read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wherry import ScriptedModel
from wherry.compat.autogen import AssistantAgent, UserProxyAgent, runtime_logging
from wherry.compat.autogen.logger.base_logger import BaseLogger
from wherry.compat.autogen.logger.logger_utils import to_dict
from wherry.messages import ToolCall
from wherry.models import ModelReply


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WHERRY_STORE", "memory://")
    yield
    runtime_logging.stop()


def clock(city: str) -> str:
    return f"noon, {city}"


def chat() -> None:
    call = ModelReply(tool_calls=[ToolCall("1", "clock", {"city": "Rome"})])
    model = ScriptedModel([call, "It is noon."])
    assistant = AssistantAgent("assistant", llm_config={"config_list": [{"model": model, "api_key": "sk-secret"}]})
    user = UserProxyAgent(
        "user",
        human_input_mode="NEVER",
        code_execution_config=False,
        function_map={"clock": clock},
    )
    user.initiate_chat(assistant, message="What time is it?", max_turns=2, silent=True)


def test_a_database(tmp_path: Path) -> None:
    session = runtime_logging.start(config={"dbname": str(tmp_path / "logs.db")})
    assert runtime_logging.logging_enabled()
    chat()
    runtime_logging.log_event("program", "done", took=3)
    runtime_logging.stop()
    assert runtime_logging.get_connection() is None
    chat()  # nothing of this
    with closing(sqlite3.connect(tmp_path / "logs.db")) as found:
        found.row_factory = sqlite3.Row

        def rows(query: str) -> list[dict[str, Any]]:
            return [dict(row) for row in found.execute(query)]

        asked = rows("SELECT * FROM chat_completions ORDER BY id")
        assert [row["source_name"] for row in asked] == ["assistant"] * 2
        assert {row["session_id"] for row in asked} == {session}
        assert json.loads(asked[0]["request"])["messages"][-1]["content"] == "What time is it?"
        assert json.loads(asked[1]["response"])["choices"][0]["message"]["content"] == "It is noon."
        assert asked[0]["start_time"] <= asked[0]["end_time"]
        agents = rows("SELECT name, class, init_args FROM agents ORDER BY id")
        assert [(row["name"], row["class"]) for row in agents] == [
            ("assistant", "AssistantAgent"),
            ("user", "UserProxyAgent"),
        ]
        (wrapper,) = rows("SELECT init_args FROM oai_wrappers")
        assert {*json.loads(wrapper["init_args"])} == {"config_list", "base_config"}
        assert "sk-secret" not in "".join(map(str, agents)) + str(rows("SELECT * FROM oai_wrappers"))
        (called,) = rows("SELECT source_name, function_name, args, returns FROM function_calls")
        assert (called["source_name"], json.loads(called["args"])) == ("user", {"city": "Rome"})
        assert json.loads(called["returns"]) == "noon, Rome"
        events = rows("SELECT event_name, source_name, json_state FROM events ORDER BY id")
        names = [row["event_name"] for row in events]
        assert (names.count("received_message"), names[-1]) == (4, "done")
        asked_of = [json.loads(row["json_state"]) for row in events if row["event_name"] == "reply_func_executed"]
        assert [one["reply"] for one in asked_of if one["final"]][-1] == "It is noon."
        assert asked_of[0]["reply_func_name"] == "check_termination_and_human_reply"
        (client,) = rows("SELECT * FROM oai_clients")
        assert (client["client_id"], client["class"]) == (asked[0]["client_id"], "ScriptedModel")
        assert "sk-secret" not in client["init_args"]
        assert json.loads(events[-1]["json_state"]) == {"took": 3}


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = runtime_logging.start(logger_type="file", config={"filename": "chat.log"})
    assert runtime_logging.get_connection() is None
    chat()
    runtime_logging.stop()
    first, *lines = (tmp_path / "autogen_logs" / "chat.log").read_text().splitlines()
    assert first == f"Started new session with Session ID: {session}"
    rows = [json.loads(line) for line in lines]
    asked = [row for row in rows if row["table"] == "chat_completions"]
    assert [row["request"]["messages"][-1]["content"] for row in asked] == ["What time is it?", "noon, Rome"]
    made = [(row["agent_name"], row["agent_type"]) for row in rows if "agent_name" in row]
    assert made == [("assistant", "AssistantAgent"), ("user", "UserProxyAgent")]
    (called,) = [row for row in rows if row["table"] == "function_calls"]
    assert json.loads(called["input_args"]) == {"city": "Rome"}
    assert {row["session_id"] for row in rows} == {session}


def test_a_file_elsewhere(tmp_path: Path) -> None:
    runtime_logging.start(logger_type="file", config={"filename": str(tmp_path / "logs" / "chat.log")})
    runtime_logging.log_event("program", "done")
    runtime_logging.stop()
    assert json.loads((tmp_path / "logs" / "chat.log").read_text().splitlines()[1])["event_name"] == "done"


class Own(BaseLogger):
    """A program's own."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def start(self) -> str:
        return "mine"

    def stop(self) -> None:
        self.seen.append(("stop",))

    def get_connection(self) -> None:
        return None

    def log_chat_completion(
        self, invocation_id: Any, client_id: int, wrapper_id: int, source: Any, request: Any, response: Any,
        is_cached: int, cost: float, start_time: str,
    ) -> None:  # fmt: skip
        self.seen.append(("asked", source, response["choices"][0]["message"]["content"], is_cached))

    def log_new_agent(self, agent: Any, init_args: Mapping[str, Any]) -> None:
        self.seen.append(("agent", agent.name))

    def log_event(self, source: Any, name: str, **kwargs: Any) -> None:
        return

    def log_new_wrapper(self, wrapper: Any, init_args: Mapping[str, Any]) -> None:
        return

    def log_new_client(self, client: Any, wrapper: Any, init_args: Mapping[str, Any]) -> None:
        return

    def log_function_use(self, source: Any, function: Any, args: Any, returns: Any) -> None:
        self.seen.append(("called", source.name, args, returns))


def test_a_logger_of_the_program() -> None:
    own = Own()
    assert runtime_logging.start(logger=own) == "mine"
    chat()
    runtime_logging.stop()
    assert own.seen == [
        ("agent", "assistant"),
        ("agent", "user"),
        ("asked", "assistant", "", 0),
        ("called", "user", {"city": "Rome"}, "noon, Rome"),
        ("asked", "assistant", "It is noon.", 0),
        ("stop",),
    ]


class Thing:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


def test_things_as_json_has_them() -> None:
    agent = AssistantAgent("a", llm_config=False)
    thing = Thing(number=1.5, several=[Thing(a=None)], agent=agent, hidden=3, built_in=len, function=clock)
    told = to_dict(thing, exclude=("hidden",), no_recursive=(AssistantAgent,))
    assert told == {
        "number": 1.5,
        "several": [{"a": None}],
        "agent": "AssistantAgent('a')",
        "built_in": "<built-in function len>",
        "function": 'def clock(city: str) -> str:\n    return f"noon, {city}"',
    }


def test_a_log_that_cannot_be_written_stops_no_chat(caplog: pytest.LogCaptureFixture) -> None:
    runtime_logging.start(config={"dbname": ":memory:"})
    connection = runtime_logging.get_connection()
    assert connection is not None
    connection.execute("DROP TABLE chat_completions")
    chat()
    assert "Error running query" in caplog.text
    with pytest.raises(ValueError, match="Unknown logger type"):
        runtime_logging.start(logger_type="paper")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
