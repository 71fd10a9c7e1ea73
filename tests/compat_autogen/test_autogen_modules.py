"""The modules that programs import from, beside the agents."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from wherry import FunctionModel, ScriptedModel
from wherry.compat.autogen import (
    AssistantAgent,
    ConversableAgent,
    GroupChat,
    LLMConfig,
    UpdateSystemMessage,
    UserProxyAgent,
    config_list_from_dotenv,
    config_list_from_models,
    config_list_openai_aoai,
    initiate_chats,
)
from wherry.compat.autogen.agentchat.contrib.capabilities.transform_messages import TransformMessages
from wherry.compat.autogen.agentchat.contrib.capabilities.transforms import MessageHistoryLimiter, MessageTokenLimiter
from wherry.compat.autogen.code_utils import execute_code, extract_code, infer_lang
from wherry.compat.autogen.exception_utils import InvalidCarryOverType, SenderRequired
from wherry.compat.autogen.graph_utils import check_graph_validity, has_self_loops, invert_disallowed_to_allowed
from wherry.compat.autogen.io import IOConsole, IOStream
from wherry.compat.autogen.oai.openai_utils import get_config, get_config_list
from wherry.compat.autogen.token_count_utils import (
    count_token,
    get_max_token_limit,
    num_tokens_from_functions,
    percentile_used,
    token_left,
)
from wherry.models import ModelRequest


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("agentchat", "Agent ConversableAgent GroupChat GroupChatManager register_function ChatResult"),
        ("agentchat.agent", "Agent LLMAgent"),
        ("agentchat.assistant_agent", "AssistantAgent"),
        ("agentchat.chat", "ChatResult initiate_chats a_initiate_chats"),
        ("agentchat.conversable_agent", "ConversableAgent register_function"),
        ("agentchat.groupchat", "GroupChat GroupChatManager"),
        ("agentchat.user_proxy_agent", "UserProxyAgent"),
        ("cache", "Cache"),
        ("code_utils", "UNKNOWN content_str extract_code in_docker_container check_can_use_docker_or_throw"),
        ("coding", "CodeBlock CodeExecutor CodeExecutorFactory CodeResult LocalCommandLineCodeExecutor"),
        ("function_utils", "get_function_schema load_basemodels_if_needed serialize_to_str"),
        ("llm_config", "LLMConfig"),
        ("oai", "ModelClient OpenAIWrapper config_list_from_json filter_config"),
        ("oai.client", "ModelClient OpenAIWrapper"),
    ],
)
def test_names_are_where_programs_look_for_them(module: str, names: str) -> None:
    found = import_module(f"wherry.compat.autogen.{module}")
    assert [name for name in names.split() if not hasattr(found, name)] == []


# -- lists of models ---------------------------------------------------------------------------------------------------


def test_keys_from_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "AZURE_OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "key_openai.txt").write_text("sk-one\nsk-two\n")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure")
    monkeypatch.setenv("AZURE_OPENAI_API_BASE", "https://one.openai.azure.com")
    found = config_list_openai_aoai(str(tmp_path))
    assert [one["api_key"] for one in found] == ["sk-one", "sk-two", "azure"]
    assert found[2]["api_type"] == "azure"
    assert config_list_openai_aoai(None, exclude="aoai") == []
    models = config_list_from_models(str(tmp_path), exclude="aoai", model_list=["a", "b"])
    assert [(one["api_key"], one["model"]) for one in models] == [
        ("sk-one", "a"),
        ("sk-one", "b"),
        ("sk-two", "a"),
        ("sk-two", "b"),
    ]


def test_keys_from_a_dotenv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    file = tmp_path / ".env"
    file.write_text("# keys\nexport OPENAI_API_KEY='sk-one'\nOTHER_KEY=sk-other\n")
    given = {"gpt-4": "OPENAI_API_KEY", "mine": {"api_key_env_var": "OTHER_KEY", "base_url": "http://127.0.0.1:1/v1"}}
    found = config_list_from_dotenv(str(file), given, {"model": ["gpt-4", "mine"]})
    assert {one["model"]: one["api_key"] for one in found} == {"gpt-4": "sk-one", "mine": "sk-other"}
    with pytest.raises(TypeError, match="Unsupported configuration type"):
        config_list_from_dotenv(str(file), {"gpt-4": 7})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]


def test_entries() -> None:
    assert get_config_list(["a", " "], ["http://x", "http://y"]) == [{"api_key": "a", "base_url": "http://x"}]
    with pytest.raises(AssertionError, match="must match"):
        get_config_list(["a"], [])
    assert get_config("k", "http://x") == {"api_key": "k", "base_url": "http://x"}


def test_a_config_from_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [{"model": "a", "tags": ["x"]}, {"model": "b"}]
    monkeypatch.setenv("MODELS", json.dumps(models))
    config = LLMConfig.from_json(env="MODELS", temperature=0.5)
    assert (config.config_list, config.get("temperature"), config.get("top_p")) == (models, 0.5, None)
    (tmp_path / "models.json").write_text(json.dumps(models))
    assert LLMConfig.from_json(path=tmp_path / "models.json").config_list == models
    assert json.loads(config.copy(deep=True).model_dump_json()) == dict(config)
    with pytest.raises(ValueError, match="give env"):
        LLMConfig.from_json()


# -- messages ----------------------------------------------------------------------------------------------------------


def test_limiters_of_messages() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "result"},
        {"role": "user", "content": "last"},
    ]
    assert MessageHistoryLimiter(2).apply_transform(messages) == messages[3:]
    assert MessageHistoryLimiter(3, keep_first_message=True).apply_transform(messages) == [messages[0], messages[3]]
    assert MessageHistoryLimiter().apply_transform(messages) == messages
    with pytest.raises(ValueError, match="max_messages"):
        MessageHistoryLimiter(0)
    long = [{"role": "user", "content": "word " * 100}, {"role": "user", "content": "very " * 50}]
    cut = MessageTokenLimiter(max_tokens=80, max_tokens_per_message=60).apply_transform(long)
    assert [len(str(one["content"])) for one in cut] == [144, 250]
    assert sum(count_token(str(one["content"])) for one in cut) == 80
    assert MessageTokenLimiter(min_tokens=5_000).apply_transform(long) == long
    assert MessageTokenLimiter(0, filter_dict={"role": "user"}).apply_transform(long) == long
    assert MessageTokenLimiter(10).get_logs(long, cut)[1]
    with pytest.raises(ValueError, match="greater than or equal"):
        MessageTokenLimiter(-1)


def test_transforms_of_an_agent(capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        sent.append(request)
        return "yes"

    agent = AssistantAgent("a", llm_config={"config_list": [{"model": FunctionModel(answer)}]})
    TransformMessages(transforms=[MessageHistoryLimiter(2)]).add_to_agent(agent)
    messages = [{"role": ("user", "assistant")[n % 2], "content": f"number {n}"} for n in range(11)]
    assert agent.generate_reply(messages=messages) == "yes"
    assert [one.content for one in sent[0].messages[-1:]] == ["number 10"]
    assert not any("number 8" in one.content for one in sent[0].messages)
    assert len(messages) == 11
    assert "Removed 9 messages." in capsys.readouterr().out


def test_tokens() -> None:
    text = "I'm sorry, but I'm not able to"
    assert count_token(text) == 10
    assert token_left(text) == 4_096 - 10
    assert percentile_used(text) == 10 / 4_096
    assert count_token([{"role": "user", "content": "hello", "name": "ann"}]) == 10
    assert get_max_token_limit("gpt-35-turbo") == get_max_token_limit("gpt-3.5-turbo") == 16_385
    with pytest.raises(ValueError, match="must be str"):
        count_token(7)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# -- agents ------------------------------------------------------------------------------------------------------------


def test_a_system_message_of_the_moment() -> None:
    sent: list[str] = []

    def answer(request: ModelRequest) -> str:
        sent.append(request.messages[0].content)
        return "yes"

    def counted(agent: Any, messages: list[dict[str, Any]]) -> str:
        return f"{agent.name} has heard {len(messages)}"

    config = {"config_list": [{"model": FunctionModel(answer)}]}
    template = ConversableAgent(
        "a",
        llm_config=config,
        context_variables={"who": "Ann"},
        update_agent_state_before_reply=[UpdateSystemMessage("You talk to {who}.")],
    )
    function = ConversableAgent("b", llm_config=config, update_agent_state_before_reply=UpdateSystemMessage(counted))
    for agent in (template, function):
        agent.generate_reply(messages=[{"role": "user", "content": "hello"}])
    assert sent == ["You talk to Ann.", "b has heard 1"]
    for wrong in ("no variable", 7, lambda: ""):
        with pytest.raises(ValueError, match=r"[Uu]pdate function"):
            UpdateSystemMessage(wrong)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_errors_of_queues() -> None:
    one, two = (ConversableAgent(name, llm_config=False, human_input_mode="NEVER") for name in ("one", "two"))
    with pytest.raises(SenderRequired):
        initiate_chats([{"recipient": two, "message": "hello"}])
    with pytest.raises(InvalidCarryOverType):
        one.initiate_chat(two, message="hello", carryover={"a": 1}, max_turns=1)


class _Desk(IOStream):
    """A person at a desk elsewhere."""

    def __init__(self, *said: str) -> None:
        self.said = [*said]
        self.shown: list[str] = []

    def print(self, *objects: Any, sep: str = " ", end: str = "\n", flush: bool = False) -> None:
        self.shown.append(sep.join(map(str, objects)))

    def input(self, prompt: str = "", *, password: bool = False) -> str:
        self.shown.append(prompt)
        return self.said.pop(0)


@pytest.mark.anyio
async def test_a_stream_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(["hello", "bye"])
    assistant = AssistantAgent("assistant", llm_config={"config_list": [{"model": model}]})
    user = UserProxyAgent("user", code_execution_config=False)
    desk = _Desk("who are you?", "exit")
    with IOStream.set_default(desk):
        assert IOStream.get_default() is desk
        result = user.initiate_chat(assistant, message="hi")
    assert [message["content"] for message in result.chat_history] == ["hi", "hello", "who are you?", "bye"]
    assert any("bye" in one for one in desk.shown)
    assert sum("Provide feedback" in one for one in desk.shown) == 2
    again = _Desk("exit")
    with IOStream.set_default(again):
        other = AssistantAgent("other", llm_config={"config_list": [{"model": ScriptedModel(["hm"])}]})
        await user.a_initiate_chat(other, message="hi")
    assert any("hm" in one for one in again.shown)
    assert capsys.readouterr().out == ""
    assert isinstance(IOStream.get_default(), IOConsole)


def test_who_may_speak_after_whom(caplog: pytest.LogCaptureFixture) -> None:
    a, b, c, other = (ConversableAgent(name, llm_config=False) for name in ("a", "b", "c", "other"))
    agents = [a, b, c]
    allowed = invert_disallowed_to_allowed({a: [b, other]}, agents)
    assert allowed == {a: [a, c], b: agents, c: agents}
    assert has_self_loops(allowed)
    assert not has_self_loops({a: [b], b: [a]})
    for wrong in ([a], {a: b}, {other: [a]}, {a: ["b"]}):
        with pytest.raises(ValueError, match="allowed_speaker_transitions_dict"):
            check_graph_validity(wrong, agents)
    assert caplog.text == ""
    check_graph_validity({a: [b, b], b: [a]}, agents)
    assert all(word in caplog.text for word in ("isolated", "do not match agents", "duplicate"))
    chat = GroupChat(
        agents,
        [],
        2,
        allowed_or_disallowed_speaker_transitions={a: [other, c]},
        speaker_transitions_type="allowed",
    )
    assert chat.select_speaker(a, a) is c  # one who is not there does not speak


def test_code(tmp_path: Path) -> None:
    assert (infer_lang("print(1)"), infer_lang("pip install x"), infer_lang("let x = 1")) == ("python", "sh", "unknown")
    assert extract_code("a `b = 1` c", detect_single_line_code=True) == [("", "b = 1")]
    assert extract_code("```\nx\n```") == [("", "x")]
    assert extract_code("nothing") == [("unknown", "nothing")]
    assert execute_code("print(6 * 7)", work_dir=str(tmp_path)) == (0, "42\n", None)
    with pytest.raises(AssertionError, match="must be provided"):
        execute_code()


def test_functions_are_counted_by_the_rule_of_thumb() -> None:
    def one(**properties: dict[str, Any]) -> dict[str, Any]:
        parameters = {"type": "object", "properties": properties}
        return {"name": "look", "description": "look around", "parameters": parameters}

    bare = num_tokens_from_functions([{"name": "look", "description": "look around"}])
    assert bare == 12 + count_token("look") + count_token("look around") - 2
    assert num_tokens_from_functions([one()]) == bare + 9
    where = {"type": "string", "enum": ["up", "down"]}
    assert num_tokens_from_functions([one(where=where)]) == bare + 11 + count_token("where") + 2 + 1 - 3 + 2 * (3 + 1)
