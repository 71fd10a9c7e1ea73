"""What programs do with the smaller parts: pictures, built-in tools, clients and requests of their own, copies."""

from __future__ import annotations

import copy
import json
import pickle
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image
from tests.compat_smolagents.strict_server import strict_server
from tests.compat_smolagents.test_smolagents_face import actions, calls, code, code_agent, double, tool_agent

from wherry.agents import portal
from wherry.compat.smolagents import (
    AgentImage,
    AgentText,
    ApiModel,
    ChatMessage,
    CodeAgent,
    LiteLLMModel,
    LiteLLMRouterModel,
    MessageRole,
    Model,
    OpenAIModel,
    PlanningStep,
    PythonInterpreterTool,
    TokenUsage,
    Tool,
    tool,
)
from wherry.compat.smolagents.models import get_clean_message_list, supports_stop_parameter
from wherry.compat.smolagents.utils import parse_code_blobs
from wherry.errors import ConfigurationError, ToolTimeout


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


def test_a_picture_that_is_the_answer() -> None:
    @tool
    def draw(what: str) -> Image.Image:
        """Draws.

        Args:
            what: it
        """
        return Image.new("RGB", (3, 4))

    agent = tool_agent(calls(("draw", {"what": "x"})), calls(("final_answer", {"answer": "image.png"})), tools=[draw])
    answer = agent.run("go")
    assert isinstance(answer, AgentImage)
    assert isinstance(answer, Image.Image)
    assert answer.size == (3, 4)
    assert type(answer.to_raw()) is Image.Image
    assert type(agent.state["image.png"]) is Image.Image
    assert pickle.loads(pickle.dumps(answer)).size == (3, 4)
    with pytest.raises(AttributeError):
        answer.nothing_of_the_kind  # noqa: B018 - asked for


def test_tools_whose_types_json_has_no_word_for() -> None:
    class Frame:
        rows = 7

    class Measure(Tool):
        name = "measure"
        description = "Measures."
        inputs = {
            "image": {"type": "image", "description": "a picture"},
            "frame": {"type": "object", "description": "a table", "nullable": True},
        }
        output_type = "string"

        def forward(self, image: Image.Image, frame: Frame | None = None) -> str:
            return f"{image.size} {frame.rows if frame else 0}"

    agent = tool_agent(
        calls(("measure", {"image": "photo", "frame": "table"})),
        calls(("final_answer", {"answer": "ok"})),
        tools=[Measure()],
    )
    agent.run("go", additional_args={"photo": Image.new("RGB", (5, 6)), "table": Frame()})
    assert actions(agent)[0].observations == "(5, 6) 7"


def test_choices_in_a_docstring() -> None:
    @tool
    def paint(colour: str) -> str:
        """Paints.

        Args:
            colour: which one (choices: ["red", "green"])
        """
        return colour

    assert paint.inputs == {"colour": {"type": "string", "description": "which one", "enum": ["red", "green"]}}


def test_a_built_in_tool_is_derived_from() -> None:
    class Shouting(PythonInterpreterTool):
        def forward(self, code: str) -> str:
            return super().forward(code).upper()

    assert Shouting()("word = 'so'").endswith("OUTPUT: SO")
    assert PythonInterpreterTool()({"code": "6 * 7"}) == "Stdout:\n\nOutput: 42"
    agent = tool_agent(
        calls(("python_interpreter", {"code": "print('quiet')"})),
        calls(("final_answer", {"answer": "ok"})),
        tools=[Shouting()],
    )
    agent.run("go")
    assert "QUIET" in str(actions(agent)[0].observations)


def test_a_built_in_tool_keeps_to_its_time_when_it_is_called_by_hand() -> None:
    with pytest.raises(ToolTimeout, match="did not return within"):
        PythonInterpreterTool(timeout_seconds=0.3)("while True: pass")


def answering(text: str) -> tuple[Any, list[dict[str, Any]]]:
    """Chat completions of a program's own, and what they were asked."""
    asked: list[dict[str, Any]] = []

    def create(**given: Any) -> Any:
        asked.append(given)
        message = SimpleNamespace(content=text, tool_calls=None)
        return SimpleNamespace(
            choices=[SimpleNamespace(message=message)], usage=SimpleNamespace(prompt_tokens=7, completion_tokens=3)
        )

    return create, asked


def test_a_client_of_a_programs_own_is_asked() -> None:
    create, asked = answering(code("final_answer(4)"))
    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    agent = CodeAgent([], OpenAIModel("m", client=client, temperature=0.5), verbosity_level=-1)
    assert agent.run("go") == 4
    assert (asked[0]["model"], asked[0]["temperature"]) == ("m", 0.5)
    assert [message["role"] for message in asked[0]["messages"]] == ["system", "user"]
    assert actions(agent)[0].token_usage == TokenUsage(7, 3)


def test_a_client_that_a_subclass_makes() -> None:
    create, asked = answering("never<STOP> more")

    class Routed(LiteLLMModel):
        def create_client(self) -> Any:
            return SimpleNamespace(completion=create)

    hello = [ChatMessage(MessageRole.USER, [{"type": "text", "text": "hello"}])]
    said = Routed("openai/o4-mini")(hello, stop_sequences=["<STOP>"], tools_to_call_from=[double])
    assert said.content == "never"
    assert "stop" not in asked[0]
    assert asked[0]["tool_choice"] == "required"
    assert asked[0]["tools"][0]["function"]["name"] == "double"


@pytest.mark.slow
def test_a_group_of_models_is_asked_in_turn() -> None:
    down = {"model": "openai/m", "api_base": "http://127.0.0.1:9/v1", "api_key": "none", "timeout": 1}
    with strict_server(code("final_answer('up')")) as server:
        up = {"model": "openai/m", "api_base": server.url, "api_key": "none"}
        groups = [("a", down), ("b", down), ("a", up)]
        listed = [{"model_name": name, "litellm_params": parameters} for name, parameters in groups]
        model = LiteLLMRouterModel("a", listed, max_tokens=100)
        assert CodeAgent([], model, verbosity_level=-1).run("go") == "up"
        for one in cast("Any", model.core()).models:
            portal.call(one.aclose)
    with pytest.raises(ConfigurationError, match="has no 'c'"):
        LiteLLMRouterModel("c", listed)


def test_a_model_that_prepares_its_requests_by_the_old_name() -> None:
    class Own(Model):
        def generate(self, messages: Any, stop_sequences: Any = None, **options: Any) -> ChatMessage:
            self.sent = self._prepare_completion_kwargs(messages, stop_sequences, tool_choice="auto", **options)
            return (
                ChatMessage(MessageRole.ASSISTANT, calls(("final_answer", {"answer": "5"})).content, None)
                if ("tools" not in self.sent)
                else calls(("final_answer", {"answer": "5"}))
            )

    agent = tool_agent("", tools=[double])
    agent.model = own = Own(flatten_messages_as_text=True, top_p=0.1)
    assert agent.run("go") == "5"
    assert own.sent["messages"][-1] == {"role": "user", "content": "go"}
    assert (own.sent["top_p"], own.sent["tool_choice"], "stop" in own.sent) == (0.1, "auto", True)


def test_messages_as_a_server_takes_them() -> None:
    def said(role: MessageRole, text: str) -> ChatMessage:
        return ChatMessage(role, [{"type": "text", "text": text}])

    given = [said(MessageRole.USER, "a"), said(MessageRole.TOOL_RESPONSE, "b"), said(MessageRole.ASSISTANT, "c")]
    picture = ChatMessage(MessageRole.ASSISTANT, [{"type": "image", "image": Image.new("RGB", (1, 1))}])
    made = get_clean_message_list(
        [*given, picture], {MessageRole.TOOL_RESPONSE: MessageRole.USER}, convert_images_to_image_urls=True
    )
    assert made[0] == {"role": "user", "content": [{"type": "text", "text": "a\nb"}]}
    assert made[1]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert given[0].content == [{"type": "text", "text": "a"}]
    with pytest.raises(ValueError, match="texts only"):
        get_clean_message_list([picture], flatten_messages_as_text=True)
    with pytest.raises(ValueError, match="Incorrect role"):
        get_clean_message_list([{"role": "boss", "content": "do"}])


@pytest.mark.parametrize(
    ("model", "takes"),
    [("o3", False), ("o3-mini", True), ("openai/gpt-5-mini", False), ("oci/xai.grok-4", False), ("gpt-4o", True)],
)
def test_models_that_refuse_stop_sequences(model: str, takes: bool) -> None:
    assert supports_stop_parameter(model) is takes


def test_code_in_a_text() -> None:
    assert parse_code_blobs("<code>\na = 1\n</code> and <code>\nb = 2\n</code>") == "a = 1\n\nb = 2"
    with pytest.raises(ValueError, match="code"):
        parse_code_blobs("none here")


def test_steps_are_copied_and_pickled() -> None:
    agent = code_agent("the plan", code("final_answer('x')"), planning_interval=4)
    agent.run("go")
    for other in (pickle.loads(pickle.dumps(agent.memory.steps)), copy.deepcopy(agent.memory.steps)):
        assert isinstance(other[1], PlanningStep)
        assert other[2].model_input_messages[0].role == MessageRole.SYSTEM
        assert [step.dict() for step in other] == agent.memory.get_full_steps()
    assert json.loads(json.dumps(agent.memory.get_full_steps()))[2]["is_final_answer"] is True


def test_an_error_of_a_callback_is_raised_as_it_is() -> None:
    def plan(step: PlanningStep, agent: Any) -> None:
        raise KeyError("of a plan")

    agent = code_agent("plan", code("x = 1"), planning_interval=1, step_callbacks={PlanningStep: plan})
    with pytest.raises(KeyError, match="of a plan"):
        agent.run("go")

    def action(step: Any, agent: Any) -> None:
        raise ValueError("of a step")

    agent = code_agent(code("x = 1"), step_callbacks=[action])
    steps = agent.run("go", stream=True)
    with pytest.raises(ValueError, match="of a step"):
        list(steps)


def test_functions_that_an_executor_is_given_are_called_by_snippets() -> None:
    space: dict[str, Any] = {}
    exec("def scale(value, by=2):\n    return [value * by]", space)
    given = {"additional_functions": {"scaled": space["scale"], "size": len}}
    agent = code_agent(code("final_answer(scaled(size('abc'), by=4) + scaled(1))"), executor_kwargs=given)
    assert agent.run("go", additional_args={"scaled": "no variable of this name"}) == [12, 2]
    assert "scaled" not in agent.tools
    assert agent.to_dict()["executor_kwargs"] == {}


def test_what_an_executor_would_have_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'say' does not say what it takes"):
        CodeAgent([], Model(), executor_kwargs={"additional_functions": {"say": print}})
    with pytest.raises(ConfigurationError, match="'f' does not say what it takes"):
        CodeAgent([], Model(), executor_kwargs={"additional_functions": {"f": max}})
    assert not hasattr(code_agent("x"), "python_executor")


def test_a_subclass_of_the_base_of_models_with_a_client_needs_no_more() -> None:
    class Own(ApiModel):
        def create_client(self) -> str:
            return "a client"

        def generate(self, messages: Any, *_: Any, **options: Any) -> ChatMessage:
            assert self.client == "a client"
            return ChatMessage(MessageRole.ASSISTANT, code("final_answer('so')"))

    answer = CodeAgent([], Own("m"), verbosity_level=-1).run("go")
    assert (answer, type(answer)) == ("so", AgentText)


def test_brackets_are_no_markup_where_an_agent_is_drawn() -> None:
    from rich.console import Console

    class Odd(Tool):
        name = "odd"
        description = "Takes [/nothing] and [red]paint."
        inputs = {"x": {"type": "string", "description": "an [i]x"}}
        output_type = "string"

        def forward(self, x: str) -> str:
            return x

    below = code_agent("x", name="below", description="[bold]D[/oops]")
    agent = code_agent("x", tools=[Odd()], managed_agents=[below])
    drawn = StringIO()
    agent.logger.console = Console(file=drawn, width=200)
    agent.visualize()
    for said in ("Takes [/nothing] and [red]paint.", "an [i]x", "[bold]D[/oops]"):
        assert said in drawn.getvalue()


def test_an_agent_that_is_run_in_a_loop_and_edited_between_the_steps_of_a_stream() -> None:
    import asyncio

    agent = code_agent(code("print('salt')"), code("final_answer(2)"))

    async def whole() -> list[Any]:
        steps: list[Any] = []
        for step in agent.run("go", stream=True):
            steps.append(step)
            if getattr(step, "step_number", 0) == 1:
                step.observations = "pepper"
        return steps

    assert asyncio.run(whole())[-1].output == 2
    sent = str(agent.model.asked[1])
    assert ("pepper" in sent, "salt\\n" in sent) == (True, False)
