"""Model clients of a program's own, and the wrapper around models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wherry import FunctionModel, ScriptedModel
from wherry.compat.autogen import AssistantAgent, GroupChat, GroupChatManager, OpenAIWrapper, UserProxyAgent
from wherry.context import TokenCounter
from wherry.models import ModelProfile, ModelReply, ModelRequest


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


class Parrot:
    """A client as a program has it."""

    def __init__(self, config: dict[str, Any], **given: Any) -> None:
        self.config = config
        self.given = given
        self.asked: list[dict[str, Any]] = given.get("asked", [])

    def create(self, params: dict[str, Any]) -> Any:
        self.asked.append(params)
        if (answer := self.given.get("answer")) is not None:
            answer = answer(params)
        message = answer if isinstance(answer, SimpleNamespace) else SimpleNamespace(content=answer or "Polly.")
        return SimpleNamespace(choices=[SimpleNamespace(message=message)], model="parrot-1")

    def message_retrieval(self, response: Any) -> list[Any]:
        return [
            choice.message if getattr(choice.message, "tool_calls", None) else choice.message.content
            for choice in response.choices
        ]

    def cost(self, response: Any) -> float:
        response.cost = 0.25
        return 0.25

    @staticmethod
    def get_usage(response: Any) -> dict[str, Any]:
        return {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "cost": 0.25, "model": response.model}


ENTRY = {"model": "parrot", "model_client_cls": "Parrot", "device": "cpu", "params": {"most": 10}, "temperature": 0.5}


def test_a_client_of_ones_own() -> None:
    asked: list[dict[str, Any]] = []
    assistant = AssistantAgent("a", llm_config={"config_list": [ENTRY], "cache_seed": None})
    assistant.register_model_client(model_client_cls=Parrot, asked=asked)
    user = UserProxyAgent("u", human_input_mode="NEVER", max_consecutive_auto_reply=0, code_execution_config=False)
    result = user.initiate_chat(assistant, message="hello", silent=True)
    assert result.summary == "Polly."
    assert result.cost["usage_including_cached_inference"] == {
        "total_cost": 0.25,
        "parrot-1": {"cost": 0.25, "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }
    (sent,) = asked
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert sent["messages"][-1]["content"] == "hello"
    assert sent["model"] == "parrot"
    assert (sent["device"], sent["params"], sent["temperature"]) == ("cpu", {"most": 10}, 0.5)
    assert not {"cache_seed", "max_tokens", "price"} & sent.keys()


def test_what_it_is_given_fits() -> None:
    asked: list[dict[str, Any]] = []
    assistant = AssistantAgent("a", llm_config={"config_list": [{**ENTRY, "window": 2_048}]})
    assistant.register_model_client(Parrot, asked=asked)
    messages = [{"role": "user", "content": f"{n}: " + "a long report. " * 200} for n in range(50)]
    assert assistant.generate_reply(messages=messages) == "Polly."
    counter = TokenCounter.for_profile(ModelProfile("parrot"))
    assert sum(counter.text(str(message["content"])) for message in asked[0]["messages"]) < 2_048


def test_its_calls_are_executed() -> None:
    def answer(params: dict[str, Any]) -> Any:
        if params["messages"][-1]["role"] == "tool":
            return f"It is {params['messages'][-1]['content']}. TERMINATE"
        function = SimpleNamespace(name="clock", arguments="{}")
        calls = [SimpleNamespace(id="call_1", type="function", function=function)]
        return SimpleNamespace(content=None, tool_calls=calls, role="assistant", function_call=None)

    asked: list[dict[str, Any]] = []
    assistant = AssistantAgent("a", llm_config={"config_list": [ENTRY]})
    assistant.register_model_client(Parrot, asked=asked, answer=answer)
    user = UserProxyAgent(
        "u",
        human_input_mode="NEVER",
        code_execution_config=False,
        is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
    )

    @user.register_for_execution()
    @assistant.register_for_llm(description="the time")
    def clock() -> str:
        return "noon"

    assert clock() == "noon"
    result = user.initiate_chat(assistant, message="What time is it?", silent=True)
    assert result.chat_history[-1]["content"] == "It is noon. TERMINATE"
    assert asked[0]["tools"][0]["function"]["name"] == "clock"


@pytest.mark.slow
def test_the_next_entry_answers_when_its_server_fails() -> None:
    def answer(params: dict[str, Any]) -> Any:
        raise ConnectionRefusedError("nobody there")

    assistant = AssistantAgent("a", llm_config={"config_list": [ENTRY, {"model": ScriptedModel(["I am here."])}]})
    assistant.register_model_client(Parrot, answer=answer)
    assert assistant.generate_reply(messages=[{"role": "user", "content": "hello"}]) == "I am here."


def test_what_it_raises_is_raised() -> None:
    class Odd(Exception):
        pass

    def answer(params: dict[str, Any]) -> Any:
        raise Odd("a bug of its own")

    assistant = AssistantAgent("a", llm_config={"config_list": [ENTRY]})
    assistant.register_model_client(Parrot, answer=answer)
    with pytest.raises(Odd, match="a bug of its own"):
        assistant.generate_reply(messages=[{"role": "user", "content": "hello"}])


def test_classes_are_registered_by_name_once_for_each_entry() -> None:
    client = OpenAIWrapper(config_list=[ENTRY, {**ENTRY, "model": "other"}])
    client.register_model_client(Parrot)
    with pytest.raises(RuntimeError, match="not activated"):
        client.create(messages=[{"role": "user", "content": "hello"}])
    client.register_model_client(Parrot)
    assert client.create(messages=[{"role": "user", "content": "hello"}]).model == "parrot-1"
    with pytest.raises(ValueError, match="not found in the config_list"):
        OpenAIWrapper(config_list=[{**ENTRY, "model_client_cls": "Other"}]).register_model_client(Parrot)
    with pytest.raises(RuntimeError, match="not activated"):
        AssistantAgent("a", llm_config={"config_list": [ENTRY]}).generate_reply(
            messages=[{"role": "user", "content": "hello"}]
        )


def test_the_response_is_the_clients_own() -> None:
    client = OpenAIWrapper(config_list=[ENTRY])
    client.register_model_client(Parrot)
    response = client.create(messages=[{"role": "user", "content": "hello"}])
    assert response.cost == 0.25
    assert response.choices[0].message.content == "Polly."
    assert client.extract_text_or_completion_object(response) == ["Polly."]


def test_it_chooses_speakers() -> None:
    def answer(params: dict[str, Any]) -> Any:
        return "cy"

    config = {"config_list": [{"model": FunctionModel(lambda _: "I agree.")}]}
    agents = [AssistantAgent(name, llm_config=config) for name in ("ann", "bo", "cy")]
    group = GroupChat(agents=agents, messages=[], max_round=3)
    manager = GroupChatManager(group, llm_config={"config_list": [ENTRY]})
    manager.register_model_client(Parrot, answer=answer)
    agents[0].initiate_chat(manager, message="Shall we?", silent=True)
    assert [message["name"] for message in group.messages] == ["ann", "cy", "cy"]


def test_it_chooses_speakers_alone() -> None:
    def bo(params: dict[str, Any]) -> str:
        return "bo"

    class Parrot2(Parrot):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config, answer=bo)

    agents = [AssistantAgent(name, llm_config={"config_list": [{"model": ScriptedModel(["hm"])}]}) for name in "xy"]
    agents.append(AssistantAgent("bo", llm_config={"config_list": [{"model": ScriptedModel(["I was chosen."])}]}))
    group = GroupChat(
        agents=agents,
        messages=[],
        max_round=2,
        select_speaker_auto_llm_config={"config_list": [{**ENTRY, "model_client_cls": "Parrot2"}]},
        select_speaker_auto_model_client_cls=Parrot2,
    )
    agents[0].initiate_chat(GroupChatManager(group, llm_config=False), message="Who?", silent=True)
    assert [message["name"] for message in group.messages] == ["x", "bo"]


@pytest.mark.parametrize(("given", "most"), [({"max_tokens": 9}, 9), ({}, 64), ({"max_tokens": 900}, 64)])
def test_a_choice_is_short(given: dict[str, Any], most: int) -> None:
    asked: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        asked.append(request)
        return "bo"

    agents = [AssistantAgent(name, llm_config=False, default_auto_reply="hm") for name in ("ann", "bo", "cy")]
    config = {"config_list": [{"model": FunctionModel(answer), **given}]}
    group = GroupChat(agents, [], 2)
    agents[0].initiate_chat(GroupChatManager(group, llm_config=config), message="Who?", silent=True)
    assert [request.max_output for request in asked] == [most]


def test_templates_and_filters() -> None:
    def answer(request: ModelRequest) -> ModelReply:
        return ModelReply(f"no {request.messages[-1].content}")

    first, second = FunctionModel(answer, name="first"), ScriptedModel(["Yes."], name="second")
    client = OpenAIWrapper(config_list=[{"model": first}, {"model": second}])

    def yes(context: dict[str, Any], response: Any) -> bool:
        return client.extract_text_or_completion_object(response) == [context["wanted"]]

    response = client.create(
        messages=[{"role": "user", "content": "Is it {wanted}?"}],
        context={"wanted": "Yes."},
        allow_format_str_template=True,
        filter_func=yes,
    )
    assert response.choices[0].message.content == "Yes."
    assert (response.config_id, response.pass_filter) == (1, True)
    assert client.total_usage_summary is not None
    plain = client.create(messages=[{"role": "user", "content": "{raw}"}])
    assert plain.choices[0].message.content == "no {raw}"
    assert client.create(prompt="hm").choices[0].message.content == "no hm"
