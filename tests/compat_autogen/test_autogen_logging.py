"""Runtime logging: the tables that programs read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wherry import ScriptedModel
from wherry.compat.autogen import AssistantAgent, UserProxyAgent, runtime_logging
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
        assert [row["event_name"] for row in events] == ["received_message"] * 4 + ["done"]
        assert json.loads(events[-1]["json_state"]) == {"took": 3}


def test_a_file(tmp_path: Path) -> None:
    runtime_logging.start(logger_type="file", config={"filename": str(tmp_path / "logs" / "runtime.log")})
    chat()
    runtime_logging.stop()
    rows = [json.loads(line) for line in (tmp_path / "logs" / "runtime.log").read_text().splitlines()]
    assert sum(row["table"] == "chat_completions" for row in rows) == 2


def test_a_log_that_cannot_be_written_stops_no_chat(caplog: pytest.LogCaptureFixture) -> None:
    runtime_logging.start(config={"dbname": ":memory:"})
    connection = runtime_logging.get_connection()
    assert connection is not None
    connection.execute("DROP TABLE chat_completions")
    chat()
    assert "Error running query" in caplog.text
    with pytest.raises(ValueError, match="Unknown logger type"):
        runtime_logging.start(logger_type="paper")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
