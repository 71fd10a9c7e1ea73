"""What programs put in the place of an agent's methods, and what they read of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

import wherry.compat.autogen as autogen
from wherry import FunctionModel, ScriptedModel
from wherry.compat.autogen import AssistantAgent, ConversableAgent, OpenAIWrapper, UserProxyAgent
from wherry.compat.autogen.formatting_utils import colored
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


def config(*script: Any) -> dict[str, Any]:
    return {"config_list": [{"model": ScriptedModel([*script])}]}


def user(**options: Any) -> UserProxyAgent:
    return UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False, **options)


# -- methods that programs have of their own ---------------------------------------------------------------------------


def test_a_page_that_shows_what_is_said_as_it_is_said() -> None:
    shown: list[tuple[str, str, str]] = []

    class Tracked(AssistantAgent):
        def _process_received_message(self, message: Any, sender: Any, silent: bool | None) -> None:
            shown.append((self.name, sender.name, message))
            super()._process_received_message(message, sender, silent)

    class TrackedUser(UserProxyAgent):
        def _process_received_message(self, message: Any, sender: Any, silent: bool | None) -> None:
            shown.append((self.name, sender.name, message))
            super()._process_received_message(message, sender, silent)

    person = TrackedUser("user", human_input_mode="NEVER", code_execution_config=False, default_auto_reply="Go on.")
    done = person.initiate_chat(
        Tracked("a", llm_config=config("One.", "Two.")), message="Count.", max_turns=2, silent=True
    )
    assert shown == [("a", "user", "Count."), ("user", "a", "One."), ("a", "user", "Go on."), ("user", "a", "Two.")]
    assert len(done.chat_history) == 4


def test_printing_of_the_programs_own(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[Any] = []

    class Own(UserProxyAgent):
        def _print_received_message(self, message: Any, sender: Any) -> None:
            shown.append((sender.name, message))

    own = Own("user", human_input_mode="NEVER", code_execution_config=False)
    assistant = AssistantAgent("a", llm_config=config("One."))
    own.initiate_chat(assistant, message="Count.", max_turns=1)
    assert shown == [("a", "One.")]
    said = capsys.readouterr().out
    assert "Count." in said
    assert "One." not in said


def test_a_message_that_says_nothing_is_refused_where_it_is_received() -> None:
    with pytest.raises(ValueError, match="can't be converted"):
        user().receive({"name": "x"}, AssistantAgent("a", llm_config=False), silent=True)


def test_messages_are_kept_by_the_method_that_programs_call() -> None:
    one, other = user(), AssistantAgent("a", llm_config=False)
    assert one._append_oai_message("Hi.", "assistant", other, is_sending=True)  # pyright: ignore[reportPrivateUsage]
    assert one._append_oai_message({"content": "Ho."}, "user", other, is_sending=False)  # pyright: ignore[reportPrivateUsage]
    assert not one._append_oai_message({}, "user", other, is_sending=False)  # pyright: ignore[reportPrivateUsage]
    assert [(m["role"], m["name"], m["content"]) for m in one.chat_messages[other]] == [
        ("assistant", "user", "Hi."),
        ("user", "a", "Ho."),
    ]


def test_names_of_messages_with_calls_and_results() -> None:
    call = ModelReply(tool_calls=[ToolCall("1", "f", {})])
    done = user(function_map={"f": lambda: "F"}).initiate_chat(
        AssistantAgent("a", llm_config=config(call, "Done.")), message="Go.", max_turns=2, silent=True
    )
    assert [message.get("name") for message in done.chat_history] == ["user", None, "user", "a"]
    assert done.chat_history[2]["role"] == "tool"


def test_code_is_run_by_the_method_that_programs_have() -> None:
    ran: list[tuple[str, str]] = []

    class Own(UserProxyAgent):
        def run_code(self, code: str, lang: str = "python", **options: Any) -> tuple[int, str, str | None]:
            ran.append((lang, code))
            return (3 if "stop" in code else 0), f"ran {code}", None

    own = Own("user", human_input_mode="NEVER", code_execution_config={"use_docker": False})
    assert own.execute_code_blocks([("python", "a"), ("sh", "stop"), ("python", "c")]) == (3, "\nran a\nran stop")
    assert ran == [("python", "a"), ("sh", "stop")]
    bare = UserProxyAgent("user", human_input_mode="NEVER", code_execution_config={"use_docker": False})
    assert bare.run_code("print(6)") == (0, "6\n", None)
    assert bare.execute_code_blocks([("python", "print(6)"), ("", "print(7)")]) == (0, "\n6\n\n7\n")


def test_a_chat_ends_by_a_part_that_says_so() -> None:
    said = [{"type": "text", "text": "TERMINATE"}]
    other = ConversableAgent("a", llm_config=False, human_input_mode="NEVER", default_auto_reply="More.")
    done = user().initiate_chat(other, message={"content": said}, silent=True)
    assert [message["content"] for message in done.chat_history] == [said]


# -- what is read ------------------------------------------------------------------------------------------------------


def test_modules_are_there_without_being_imported() -> None:
    assert autogen.code_utils.extract_code("```python\n1\n```") == [("python", "1")]
    assert autogen.oai.OpenAIWrapper is OpenAIWrapper
    assert autogen.agentchat.ConversableAgent is ConversableAgent
    assert autogen.__version__.startswith("0.2.")
    assert {"runtime_logging", "token_count_utils", "types", "coding"} <= {*dir(autogen)}
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        autogen.nothing_of_the_kind  # noqa: B018


def test_replies_have_what_the_openai_package_gives_them() -> None:
    call = ModelReply(tool_calls=[ToolCall("1", "f", {"a": 1})])
    client = OpenAIWrapper(**config("Hi.", call))
    said = client.create(messages=[{"role": "user", "content": "?"}])
    told = said.model_dump()
    assert told["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hi.",
        "tool_calls": None,
        "function_call": None,
    }
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
    assert json.loads(said.model_dump_json()) == told
    message = client.create(messages=[{"role": "user", "content": "?"}]).choices[0].message
    assert message.tool_calls[0].function.name == "f"
    assert message.model_dump(exclude_none=True) == {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
    }


class Client:
    """Notes what it is asked."""

    def __init__(self, config: dict[str, Any], seen: list[Any]) -> None:
        self._seen = seen

    def create(self, params: dict[str, Any]) -> Any:
        self._seen.append(params["messages"])
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="Hi."))], model="own", cost=0)

    def message_retrieval(self, response: Any) -> list[str]:
        return [choice.message.content for choice in response.choices]

    def cost(self, response: Any) -> float:
        return response.cost

    @staticmethod
    def get_usage(response: Any) -> dict[str, Any]:
        return {}


def test_no_system_message_is_none() -> None:
    seen: list[Any] = []
    agent = ConversableAgent(
        "a", system_message="", llm_config={"config_list": [{"model": "own", "model_client_cls": "Client"}]}
    )
    agent.register_model_client(Client, seen=seen)
    assert agent.generate_oai_reply([{"role": "user", "content": "Hello."}]) == (True, "Hi.")
    assert seen == [[{"role": "user", "content": "Hello."}]]


def test_text_in_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colored("x", "red", force_color=True) == "\033[31mx\033[0m"
    assert colored("x", "light_blue", "on_white", ["bold"], force_color=True) == "\033[1m\033[94m\033[107mx\033[0m"
    assert colored(3, "red", no_color=True) == "3"
    monkeypatch.setenv("NO_COLOR", "1")
    assert colored("x", "red") == "x"
    with pytest.raises(KeyError):
        colored("x", "no such")


def test_a_model_is_told_who_spoke() -> None:
    asked: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        asked.append(request)
        return f"Answer {len(asked)}."

    assistant = AssistantAgent("a", llm_config={"config_list": [{"model": FunctionModel(answer, window=4_096)}]})
    user(default_auto_reply="Go on.").initiate_chat(assistant, message="Hello.", max_turns=2, silent=True)
    said = [[(m.name, m.content) for m in request.messages if m.role != "system"] for request in asked]
    assert said[0] == [("user", "Hello.")]
    assert said[1] == [*said[0], ("a", "Answer 1."), ("user", "Go on.")]  # as it was: a prompt cache stays warm
