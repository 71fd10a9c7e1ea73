"""AG2's own agents over a model client that refuses whatever does not fit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.guard.dict_conversations import counted, faults

from wherry.errors import ConfigurationError
from wherry.guard import Fitted
from wherry.guard.ag2 import guard

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own imports use what jsonschema gives up
    autogen: Any = pytest.importorskip("autogen")

WINDOW = 2_048


class SmallServer:
    """A model client of AG2's kind, by which a request is checked before a script answers it."""

    reply: Callable[[list[dict[str, Any]]], str | list[tuple[str, dict[str, Any]]]]
    requests: list[list[dict[str, Any]]]

    def __init__(self, config: dict[str, Any], **_: Any) -> None:
        pass

    def create(self, params: dict[str, Any]) -> Any:
        messages = params["messages"]
        plain = [{**raw, "content": raw.get("content") or ""} for raw in messages]
        tools: list[dict[str, Any]] = params.get("tools") or []
        tokens = counted(plain, tools)
        assert tokens + WINDOW // 4 <= WINDOW, f"400: {tokens} tokens"
        allowed = ("in a row", "begins with", "not the first")
        assert [fault for fault in faults(plain) if not any(word in fault for word in allowed)] == []
        type(self).requests.append(messages)
        said = type(self).reply(messages)
        message = SimpleNamespace(content=said, function_call=None, tool_calls=None)
        if not isinstance(said, str):
            message.content = None
            message.tool_calls = [_Call(f"c{len(type(self).requests)}-{n}", *call) for n, call in enumerate(said)]
        name = f"reply-{len(type(self).requests)}"
        return SimpleNamespace(id=name, choices=[SimpleNamespace(message=message)], model="small", cost=0)

    def message_retrieval(self, response: Any) -> list[Any]:
        message = response.choices[0].message
        if message.tool_calls is None:
            return [message.content]
        calls = [call.as_dict() for call in message.tool_calls]
        return [{"role": "assistant", "content": None, "tool_calls": calls}]

    def cost(self, response: Any) -> float:
        return 0

    @staticmethod
    def get_usage(response: Any) -> dict[str, Any]:
        return {}


class _Call:
    def __init__(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        self.call_id, self.name, self.arguments = call_id, name, arguments

    def as_dict(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": json.dumps(self.arguments)}
        return {"id": self.call_id, "type": "function", "function": function}


CONFIG = {"config_list": [{"model": "small", "model_client_cls": "Server"}], "cache_seed": None}


def server(reply: Callable[[list[dict[str, Any]]], Any]) -> type[SmallServer]:
    return type("Server", (SmallServer,), {"reply": staticmethod(reply), "requests": []})


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    capsys.readouterr()


def assistant(name: str, of: type[SmallServer], **rest: Any) -> Any:
    agent = autogen.AssistantAgent(name, llm_config=CONFIG, **rest)
    agent.register_model_client(of)
    return agent


def test_a_list_that_grows_for_a_hundred_turns() -> None:
    of = server(lambda _: "The report is fine. " * 20)
    agent = guard(assistant("assistant", of), WINDOW, counter="qwen")
    messages: list[dict[str, Any]] = []
    for turn in range(100):
        messages.append({"role": "user", "content": f"Turn {turn}: analyze this report..."})
        reply = agent.generate_reply(messages=messages)
        messages.append({"role": "assistant", "content": reply})
        assert of.requests[-1][-1] is messages[-2] or of.requests[-1][-1] == messages[-2]
    assert len(of.requests) == 100
    assert len(messages) == 200


@pytest.mark.slow
def test_a_prompt_of_all_policies_and_a_result_of_five_megabytes() -> None:
    told: list[Fitted] = []
    of = server(lambda _: "fine")
    agent = assistant("assistant", of, system_message="You must be polite to all guests. " * 9_000)
    guard(agent, WINDOW, counter="qwen", on_fit=told.append)
    calls = [{"id": "1", "type": "function", "function": {"name": "fetch", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": "What happened?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": json.dumps([{"claim": n} for n in range(300_000)])},
    ]
    assert agent.generate_reply(messages=messages) == "fine"
    assert told[0].changed
    assert [raw["role"] for raw in of.requests[0]] == ["system", "user", "assistant", "tool"]


def is_end(message: dict[str, Any]) -> bool:
    return "TERMINATE" in str(message.get("content"))


def test_tools_of_the_agent_are_counted_also_those_of_later() -> None:
    turns = iter(range(12))

    def reply(_: list[dict[str, Any]]) -> Any:
        turn = next(turns, None)
        return "TERMINATE" if turn is None else [("search", {"query": str(turn)}), ("search", {"query": "again"})]

    of = server(reply)
    agent = guard(assistant("helper", of), WINDOW, counter="qwen")
    user = autogen.UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False)
    user._is_termination_msg = is_end

    def search(query: str) -> str:
        """Searches."""
        return f"{query}: " + "row of the table " * 200

    autogen.register_function(search, caller=agent, executor=user, name="search", description="Searches. " * 40)
    agent.register_model_client(of)
    user.initiate_chat(agent, message="Search a dozen times.", max_turns=40)
    assert len(of.requests) == 13


def test_a_group_chat_of_three_and_who_chooses_the_speaker() -> None:
    def reply(messages: list[dict[str, Any]]) -> str:
        asked = " ".join(str(raw.get("content")) for raw in (messages[0], messages[-1]))
        return "critic" if "select the next role" in asked.lower() else "I say: " + "so and so " * 200

    of = server(reply)
    agents = [assistant(name, of) for name in ("writer", "critic", "editor")]
    chat = autogen.GroupChat(agents=agents, messages=[], max_round=20, allow_repeat_speaker=True)
    chat.select_speaker_auto_model_client_cls = of
    chat.select_speaker_auto_llm_config = CONFIG
    manager = autogen.GroupChatManager(groupchat=chat, llm_config=CONFIG)
    manager.register_model_client(of)
    assert guard(manager, WINDOW, counter="qwen") is manager
    agents[0].initiate_chat(manager, message="Discuss the harbour.")
    assert len(chat.messages) == 20
    assert len(of.requests) >= 30


def test_guarding_again_takes_the_newer_budget() -> None:
    told: list[int] = []
    of = server(lambda _: "fine")
    agent = guard(assistant("assistant", of), 1_024, counter="qwen")
    guard(agent, WINDOW, counter="qwen", on_fit=lambda fitted: told.append(fitted.window))
    agent.generate_reply(messages=[{"role": "user", "content": "hello"}])
    assert told == [WINDOW]


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no classic agent"):
        guard(object(), WINDOW)
