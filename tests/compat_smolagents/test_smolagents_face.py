"""What programs written for smolagents count on."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from wherry import Limits
from wherry.compat import smolagents as face
from wherry.compat.smolagents import (
    ActionOutput,
    ActionStep,
    AgentError,
    AgentExecutionError,
    AgentGenerationError,
    AgentLogger,
    AgentMaxStepsError,
    AgentParsingError,
    AgentToolCallError,
    AgentToolExecutionError,
    ChatMessage,
    ChatMessageStreamDelta,
    CodeAgent,
    FinalAnswerStep,
    FinalAnswerTool,
    LogLevel,
    MemoryStep,
    MessageRole,
    Model,
    MultiStepAgent,
    PlanningStep,
    PythonInterpreterTool,
    RunResult,
    TaskStep,
    TokenUsage,
    Tool,
    ToolCall,
    ToolCallingAgent,
    tool,
)
from wherry.compat.smolagents.function_schema import DocstringParsingException, TypeHintParsingException
from wherry.compat.smolagents.messages import new_call
from wherry.compat.smolagents.models import get_tool_json_schema

Say = str | ChatMessage | Exception


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


class Scripted(Model):
    """A user's own model."""

    def __init__(self, *said: Say) -> None:
        super().__init__(model_id="scripted")
        self.said = list(said)
        self.asked: list[list[ChatMessage]] = []
        self.options: list[dict[str, Any]] = []

    def generate(self, messages: list[ChatMessage], **options: Any) -> ChatMessage:
        self.asked.append(messages)
        self.options.append(options)
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, Exception):
            raise said
        usage = TokenUsage(10, 20)
        return ChatMessage(MessageRole.ASSISTANT, said, token_usage=usage) if isinstance(said, str) else said


def code(text: str) -> str:
    return f"Thought: so.\n<code>\n{text}\n</code>"


def calls(*wanted: tuple[str, Any]) -> ChatMessage:
    made = [new_call(name, arguments) for name, arguments in wanted]
    return ChatMessage(MessageRole.ASSISTANT, "I call.", made)


def code_agent(*said: Say, **options: Any) -> CodeAgent:
    return CodeAgent(options.pop("tools", []), Scripted(*said), verbosity_level=LogLevel.OFF, **options)


def tool_agent(*said: Say, **options: Any) -> ToolCallingAgent:
    return ToolCallingAgent(options.pop("tools", []), Scripted(*said), verbosity_level=LogLevel.OFF, **options)


def actions(agent: MultiStepAgent) -> list[ActionStep]:
    return [step for step in agent.memory.steps if isinstance(step, ActionStep)]


@tool
def double(n: int) -> int:
    """Doubles a number.

    Args:
        n: the number
    """
    if n == 13:
        raise ValueError("unlucky")
    return n * 2


# ---- answers and steps


def test_run_gives_the_bare_answer_and_memory_the_steps() -> None:
    agent = code_agent(code("x = 6 * 7"), code("print('hi')\nfinal_answer(x)"))
    assert agent.run("What is 6 by 7?") == 42
    task, first, last = agent.memory.steps
    assert isinstance(task, TaskStep)
    assert task.task == "What is 6 by 7?"
    assert (first.step_number, first.code_action, first.action_output) == (1, "x = 6 * 7", 42)
    assert first.observations == "Execution logs:\nLast output from code snippet:\n42"
    assert first.tool_calls == [ToolCall("python_interpreter", "x = 6 * 7", "call_1")]
    assert (last.is_final_answer, last.action_output, last.error) == (True, 42, None)
    assert last.observations.startswith("Execution logs:\nhi")
    assert first.token_usage == TokenUsage(10, 20)
    assert first.timing.duration >= 0
    assert first.model_output.startswith("Thought: so.")
    assert [m.role for m in first.model_input_messages] == [MessageRole.SYSTEM, MessageRole.USER]
    assert first.dict()["tool_calls"][0]["function"]["name"] == "python_interpreter"
    assert agent.logs[0].system_prompt == agent.system_prompt
    assert agent.memory.return_full_code() == "x = 6 * 7\n\nprint('hi')\nfinal_answer(x)"
    assert "model_input_messages" not in agent.memory.get_succinct_steps()[1]


def test_the_full_result() -> None:
    agent = code_agent(code("final_answer('yes')"), return_full_result=True)
    result = agent.run("go")
    assert isinstance(result, RunResult)
    assert (result.output, result.state, result.token_usage) == ("yes", "success", TokenUsage(10, 20))
    assert result.steps is not None
    assert result.dict()["steps"][1]["is_final_answer"] is True
    assert agent.run("go", return_full_result=False) == "yes"


def test_tools_called_by_schema() -> None:
    agent = tool_agent(
        calls(("double", {"n": 4}), ("double", {"n": 5})),
        calls(("final_answer", {"answer": "8 and 10"})),
        tools=[double],
    )
    assert agent.run("go") == "8 and 10"
    first, last = actions(agent)
    assert [call.name for call in first.tool_calls or ()] == ["double", "double"]
    assert first.observations == "8\n10"
    assert (last.observations, last.is_final_answer) == ("8 and 10", True)
    model = cast("Scripted", agent.model)
    assert model.options[0]["tools_to_call_from"][0].name == "double"
    assert "final_answer" in [one.name for one in model.options[0]["tools_to_call_from"]]
    assert str(model.asked[1][-1].content).count("Observation:") == 1


def test_a_call_in_a_text_is_read() -> None:
    agent = tool_agent(
        'Action: {"name": "double", "arguments": {"n": 2}}', calls(("final_answer", "four")), tools=[double]
    )
    assert agent.run("go") == "four"
    assert actions(agent)[0].observations == "4"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("no call here", AgentParsingError, "does not contain any JSON"),
        ('{"name": double", "arguments": {}}', AgentParsingError, "The JSON blob you used is invalid"),
        (
            calls(("triple", {"n": 1})),
            AgentToolExecutionError,
            "Unknown tool triple, should be one of: double, final_answer",
        ),
        (calls(("double", {"m": 1})), AgentToolCallError, "Argument m is not in the tool's input schema"),
        (calls(("double", {"n": 13})), AgentToolExecutionError, "ValueError: unlucky"),
    ],
)
def test_what_a_tool_calling_model_does_wrong_is_told_and_the_run_goes_on(
    said: Say, kind: type[AgentError], words: str
) -> None:
    agent = tool_agent(said, calls(("final_answer", {"answer": "ok"})), tools=[double])
    assert agent.run("go") == "ok"
    error = actions(agent)[0].error
    assert error is not None
    assert type(error) is kind
    assert words in str(error)
    assert error.dict() == {"type": kind.__name__, "message": str(error)}


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("I would rather not.", AgentParsingError, "no Python code"),
        (code("def f():\n    raise KeyError('k')\nf()"), AgentExecutionError, "at line 'f()' due to: KeyError: 'k'"),
        (code("import numpy_of_nowhere"), AgentExecutionError, "No module named"),
    ],
)
def test_what_a_code_model_does_wrong(said: Say, kind: type[AgentError], words: str) -> None:
    agent = code_agent(said, code("final_answer('ok')"))
    assert agent.run("go") == "ok"
    assert type(actions(agent)[0].error) is kind
    assert words in str(actions(agent)[0].error)


def test_printed_lines_are_kept_when_the_code_fails() -> None:
    agent = code_agent(code("print('Flag!')\n1 / 0"), code("final_answer(1)"))
    agent.run("go")
    assert "Flag!" in str(actions(agent)[0].observations)


def test_steps_run_out() -> None:
    agent = code_agent(code("x = 1"), max_steps=5)
    result = agent.run("go", max_steps=2, return_full_result=True)
    assert (result.state, type(agent.memory.steps[-1].error)) == ("max_steps_error", AgentMaxStepsError)
    assert len(agent.memory.steps) == 4
    assert result.output == code("x = 1")
    assert agent.step_number == 3


def test_a_model_that_fails_ends_the_run() -> None:
    agent = code_agent(RuntimeError("Generation failed"))
    with pytest.raises(AgentGenerationError, match="Generation failed"):
        agent.run("go")
    assert len(agent.memory.steps) == 2


def test_a_limit_ends_the_run() -> None:
    agent = code_agent(code("x = 1"), limits=Limits(requests=2))
    with pytest.raises(AgentError, match="The run ended: limit"):
        agent.run("go")
    assert len(cast("Scripted", agent.model).asked) == 2


# ---- callbacks, checks, plans, streams


def test_callbacks_by_kind_of_step_in_the_thread_that_called_run() -> None:
    seen: list[str] = []
    threads: set[int] = set()

    def action(step: ActionStep, agent: Any) -> None:
        seen.append(f"action {step.step_number} {agent.name}")
        threads.add(threading.get_ident())

    def anything(step: MemoryStep) -> None:
        seen.append(type(step).__name__)

    agent = code_agent(
        "the plan",
        code("final_answer(1)"),
        name="bob",
        planning_interval=3,
        step_callbacks={ActionStep: [action], MemoryStep: anything},
    )
    agent.run("go")
    assert seen == ["PlanningStep", "action 1 bob", "ActionStep", "FinalAnswerStep"]
    assert threads == {threading.get_ident()}
    assert agent.monitor.get_total_token_counts() == TokenUsage(10, 20)


def test_a_plan_is_a_step() -> None:
    agent = code_agent("first this, then that", code("final_answer(1)"), planning_interval=1)
    agent.run("go")
    plan = agent.memory.steps[1]
    assert isinstance(plan, PlanningStep)
    assert (plan.plan, plan.token_usage) == ("first this, then that", TokenUsage(10, 20))
    assert "first this" in str(cast("Scripted", agent.model).asked[1])
    assert plan.dict()["plan"] == plan.plan


def test_checks_get_the_memory_and_the_agent() -> None:
    def long_enough(answer: Any, memory: Any, agent: Any) -> bool:
        assert memory is agent.memory
        return len(str(answer)) > 3

    agent = code_agent(code("final_answer('no')"), code("final_answer('longer')"), final_answer_checks=[long_enough])
    assert agent.run("go") == "longer"
    first, last = actions(agent)
    assert "Check long_enough failed with error" in str(first.error)
    assert (first.is_final_answer, last.is_final_answer) == (False, True)
    assert "long_enough failed" in str(cast("Scripted", agent.model).asked[1][-1].content)


def test_a_stream_goes_on_when_the_next_step_is_asked_for() -> None:
    agent = code_agent(code("x = 1"), code("x = 2"), code("final_answer(x)"))
    model = cast("Scripted", agent.model)
    kinds: list[str] = []
    for item in agent.run("go", stream=True):
        kinds.append(type(item).__name__)
        if isinstance(item, ActionStep):
            assert len(model.asked) == item.step_number, "nothing was asked before this step was taken"
    assert kinds == ["ToolCall", "ActionOutput", "ActionStep"] * 3 + ["FinalAnswerStep"]
    *_, final = agent.run("go", stream=True)
    assert isinstance(final, FinalAnswerStep)


def test_a_stream_that_is_left_stops_the_run() -> None:
    agent = code_agent(code("x = 1"))
    steps = agent.run("go", stream=True)
    while not isinstance(next(steps), ActionStep):
        pass
    steps.close()
    assert len(cast("Scripted", agent.model).asked) == 1


def test_replies_piece_by_piece() -> None:
    agent = code_agent(code("final_answer(3)"), stream_outputs=True)
    items = list(agent.run("go", stream=True))
    assert isinstance(items[0], ChatMessageStreamDelta)
    assert "final_answer(3)" in str(items[0].content)
    assert ActionOutput(3, True) in items


def test_an_interrupt_ends_the_run_before_its_next_request() -> None:
    def stop(step: ActionStep, agent: Any) -> None:
        agent.interrupt()

    agent = code_agent(code("x = 1"), step_callbacks=[stop])
    with pytest.raises(AgentError, match="Agent interrupted"):
        agent.run("go")
    assert len(cast("Scripted", agent.model).asked) == 1


def test_what_a_callback_raises_reaches_the_program() -> None:
    def fail(step: ActionStep) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        code_agent(code("x = 1"), step_callbacks=[fail]).run("go")


# ---- conversations, values, tools at run time


def test_reset_begins_anew_and_its_opposite_goes_on() -> None:
    agent = code_agent(code("final_answer('blue')"))
    agent.run("My colour is blue.")
    agent.run("What is my colour?", reset=False)
    model = cast("Scripted", agent.model)
    assert "My colour is blue." in str(model.asked[1])
    assert len(agent.memory.steps) == 4
    agent.run("And now?")
    assert "My colour is blue." not in str(model.asked[2])
    assert len(agent.memory.steps) == 2


def test_additional_args_are_variables_and_state() -> None:
    agent = code_agent(code("final_answer(sum(numbers))"))
    assert agent.run("Add them.", additional_args={"numbers": [1, 2, 3]}) == 6
    assert agent.state["numbers"] == [1, 2, 3]
    assert "numbers" in str(agent.task)


def test_names_in_the_state_stand_for_what_they_name() -> None:
    got: list[object] = []

    @tool
    def weigh(thing: Any) -> str:
        """Weighs a thing.

        Args:
            thing: anything
        """
        got.append(thing)
        return "heavy"

    stone = object()
    agent = tool_agent(
        calls(("weigh", {"thing": "stone"})), calls(("final_answer", {"answer": "stone"})), tools=[weigh]
    )
    assert agent.run("Weigh it.", additional_args={"stone": stone}) is stone
    assert got == [stone]


def test_tools_can_be_put_in_and_taken_out_at_any_time() -> None:
    agent = code_agent(code("final_answer(double(n=4))"))
    agent.tools["double"] = double
    assert "def double(n: int)" in agent.system_prompt
    assert agent.run("go") == 8

    def put_in(step: ActionStep, agent: Any) -> None:
        agent.tools["double"] = double

    late = code_agent(code("x = 1"), code("final_answer(double(2))"), step_callbacks=[put_in])
    assert late.run("go") == 4


def test_a_final_answer_tool_of_ones_own() -> None:
    class Shouted(FinalAnswerTool):
        def forward(self, answer: Any) -> Any:
            return f"{answer}!"

    assert code_agent(code("final_answer('hey')"), tools=[Shouted()]).run("go") == "hey!"

    class Pair(FinalAnswerTool):
        inputs = {"left": {"type": "string", "description": "l"}, "right": {"type": "string", "description": "r"}}

        def forward(self, left: str, right: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - as there
            return f"{left} and {right}"

    agent = tool_agent(calls(("final_answer", {"left": "a", "right": "b"})), tools=[Pair()])
    assert agent.run("go") == "a and b"
    agent = code_agent(code("x = 1"), code("final_answer('c', right='d')"), tools=[Pair()])
    assert agent.run("go") == "c and d"
    assert [step.code_action for step in actions(agent)] == ["x = 1", "final_answer('c', right='d')"]


def test_what_is_no_data_goes_by_a_name() -> None:
    class Picture:
        def save(self, out: io.BytesIO, format: str) -> None:
            out.write(b"PNG")

    made = Picture()

    class Draw(Tool):
        name = "draw"
        description = "Draws."
        inputs = {}
        output_type = "image"

        def forward(self) -> Any:
            return made

    agent = code_agent(code("picture = draw()"), code("final_answer(picture)"), tools=[Draw()])
    assert agent.run("go") is made
    assert actions(agent)[0].action_output == "image.png"


def test_pictures_with_a_task() -> None:
    class Picture:
        def save(self, out: io.BytesIO, format: str) -> None:
            out.write(b"PNG")

    picture = Picture()
    agent = code_agent(code("final_answer(1)"))
    agent.run("What is it?", images=[picture])
    parts = cast("list[dict[str, Any]]", cast("Scripted", agent.model).asked[0][1].content)
    assert parts[-1] == {"type": "image", "image": picture}
    assert agent.memory.steps[0].task_images == [picture]


# ---- teams


def test_a_manager_asks_and_gets_a_report() -> None:
    worker = tool_agent(calls(("final_answer", {"answer": "42"})), name="worker", description="Works.")
    manager = code_agent(code("said = worker('think')"), code("final_answer(said)"), managed_agents=[worker])
    assert manager.run("go") == "Here is the final answer from your managed agent 'worker':\n42"
    assert worker.memory.steps[0].task == "think"
    assert actions(worker)[0].is_final_answer
    assert worker("again") == "Here is the final answer from your managed agent 'worker':\n42"


def test_one_that_runs_in_a_way_of_its_own_is_asked_by_calling_it() -> None:
    class Lazy(ToolCallingAgent):
        def run(self, task: str, *args: Any, **kwargs: Any) -> Any:
            return f"not today: {task}"

    lazy = Lazy([], Scripted("never asked"), name="lazy", description="Lazy.", verbosity_level=LogLevel.OFF)
    manager = code_agent(code("final_answer(lazy('dig'))"), managed_agents=[lazy])
    assert manager.run("go").endswith("not today: dig")


# ---- prompts and models


def test_prompts_can_be_added_to_and_replaced() -> None:
    agent = code_agent(code("final_answer(1)"), instructions="Be kind.")
    agent.prompt_templates["system_prompt"] += "\nSpeak Latin."
    agent.run("go")
    system = str(cast("Scripted", agent.model).asked[0][0].content)
    assert "final_answer(value)" in system
    assert "Be kind." in system
    assert "Speak Latin." in system
    templates = {
        **face.EMPTY_PROMPT_TEMPLATES,
        "system_prompt": "Tools:{% for t in tools.values() %} {{ t.name }}{% endfor %}",
    }
    agent = code_agent(code("final_answer(1)"), tools=[double], prompt_templates=templates)
    assert agent.system_prompt == "Tools: double final_answer"
    with pytest.raises(AttributeError, match="read-only"):
        agent.system_prompt = "x"
    with pytest.raises(ValueError, match="planning"):
        code_agent("", prompt_templates={"system_prompt": "x"})


def test_structured_replies() -> None:
    agent = code_agent('{"thought": "easy", "code": "final_answer(5)"}', use_structured_outputs_internally=True)
    assert agent.run("go") == 5
    assert cast("Scripted", agent.model).options[0]["response_format"]["required"] == ["thought", "code"]


def test_a_function_is_a_model_and_so_is_one_of_wherrys() -> None:
    from wherry import ScriptedModel

    def answer(messages: list[ChatMessage], **_: object) -> ChatMessage:
        return ChatMessage(MessageRole.ASSISTANT, code("final_answer('from a function')"))

    assert CodeAgent([], answer, verbosity_level=LogLevel.OFF).run("go") == "from a function"
    own = ScriptedModel(["```python\nfinal_answer('own')\n```"])
    assert CodeAgent([], own, verbosity_level=LogLevel.OFF).run("go") == "own"


def test_models_by_their_names() -> None:
    azure = face.AzureOpenAIModel("gpt", azure_endpoint="https://x.openai.azure.com/", api_key="k", api_version="1")
    assert cast("Any", azure.core()).base_url == "https://x.openai.azure.com/openai/v1"
    hub = face.InferenceClientModel("a/b", provider="together", token="t")
    assert (hub.model_id, cast("Any", hub.core()).base_url) == ("a/b:together", "https://router.huggingface.co/v1")
    with pytest.raises(ValueError, match="the same"):
        face.InferenceClientModel("a/b", token="t", api_key="k")
    assert face.OpenAIServerModel is face.OpenAIModel
    assert cast("Any", face.LiteLLMModel("gpt-4o", api_key="k").core()).profile.name == "gpt-4o"
    limited = face.OpenAIModel("m", "http://127.0.0.1:1/v1", requests_per_minute=60)
    assert type(limited.core()).__name__ == "RateLimited"


def test_a_model_asked_by_hand() -> None:
    from tests.compat_smolagents.strict_server import call, strict_server

    from wherry.agents import portal

    with strict_server("hello", [call("double", n=2)]) as server:
        model = face.OpenAIModel("m", server.url, "none", max_tokens=99)
        said = model(
            [ChatMessage(MessageRole.SYSTEM, "s"), {"role": "user", "content": [{"type": "text", "text": "u"}]}]
        )
        assert (said.content, said.role, said.token_usage) == ("hello", MessageRole.ASSISTANT, TokenUsage(50, 10))
        messages = [ChatMessage(MessageRole.SYSTEM, "s"), ChatMessage(MessageRole.USER, "u")]
        wanted = model.generate(messages, stop_sequences=["x"], tools_to_call_from=[double])
        assert wanted.tool_calls is not None
        assert (wanted.tool_calls[0].function.name, wanted.tool_calls[0].function.arguments) == ("double", {"n": 2})
        portal.call(cast("Callable[..., Any]", cast("Any", model.core()).aclose))
    assert server.requests[0]["max_tokens"] == 99
    assert server.requests[1]["stop"] == ["x"]


def test_a_model_that_refuses_stop_sequences_is_cut_afterwards() -> None:
    from tests.compat_smolagents.strict_server import strict_server

    from wherry.agents import portal

    with strict_server("so far STOP no farther") as server:
        model = face.OpenAIModel("o4-mini", server.url, "none", max_tokens=99)
        messages = [ChatMessage(MessageRole.SYSTEM, "s"), ChatMessage(MessageRole.USER, "u")]
        assert model.generate(messages, stop_sequences=["STOP"]).content == "so far "
        portal.call(cast("Callable[..., Any]", cast("Any", model.core()).aclose))
    assert "stop" not in server.requests[0]


def test_pictures_as_addresses() -> None:
    from PIL.Image import new as new_image

    from wherry.compat.smolagents.utils import encode_image_base64, make_image_url

    assert make_image_url(encode_image_base64(new_image("RGB", (1, 1)))).startswith("data:image/png;base64,iVBOR")


# ---- tools


def test_the_table_of_a_function() -> None:
    @tool
    def look(query: str, most: int = 3, kind: str | None = None) -> list[str]:
        """Looks for something.

        Args:
            query: what for
            most: how many
            kind: of which kind
        """
        return [query] * most

    assert look.inputs == {
        "query": {"type": "string", "description": "what for"},
        "most": {"type": "integer", "description": "how many", "nullable": True},
        "kind": {"type": "string", "description": "of which kind", "nullable": True},
    }
    assert (look.name, look.description, look.output_type) == ("look", "Looks for something.", "array")
    assert look("x", most=2) == ["x", "x"]
    assert look({"query": "y", "most": 1}) == ["y"]
    assert "def look(query: string, most: integer, kind: string) -> array:" in look.to_code_prompt()
    assert get_tool_json_schema(look)["function"]["parameters"]["required"] == ["query"]


def test_functions_that_do_not_say_enough() -> None:
    def untyped(x):  # type: ignore[no-untyped-def]
        """Does.

        Args:
            x: it
        """

    def undescribed(x: int) -> int:
        """Does."""
        return x

    with pytest.raises(TypeHintParsingException, match="missing a type hint"):
        tool(cast("Any", untyped))
    with pytest.raises(DocstringParsingException, match="no description for the argument 'x'"):
        tool(undescribed)


def test_classes_that_are_malformed_are_refused_when_made() -> None:
    class NoType(Tool):
        name = "t"
        description = "d"
        inputs = {"x": {"type": "text", "description": "x"}}
        output_type = "string"

        def forward(self, x: str) -> str:
            return x

    class Other(Tool):
        name = "t"
        description = "d"
        inputs = {"x": {"type": "string", "description": "x"}}
        output_type = "string"

        def forward(self, y: str) -> str:
            return y

    with pytest.raises(ValueError, match="must be one of"):
        NoType()
    with pytest.raises(ValueError, match="expected"):
        Other()


def test_setup_is_called_once_and_late() -> None:
    class Heavy(Tool):
        name = "heavy"
        description = "Heavy."
        inputs = {}
        output_type = "integer"
        made = 0

        def setup(self) -> None:
            self.made += 1
            self.is_initialized = True

        def forward(self) -> int:
            return self.made

    heavy = Heavy()
    assert heavy.made == 0
    assert code_agent(code("heavy()\nfinal_answer(heavy())"), tools=[heavy]).run("go") == 1


def test_the_interpreter_is_the_sandbox() -> None:
    interpreter = PythonInterpreterTool()
    assert interpreter("print('x')\n2 * 21") == "Stdout:\nx\n\nOutput: 42"
    agent = tool_agent(
        calls(("python_interpreter", {"code": "2*3.6452"})),
        calls(("final_answer", {"answer": "7.2904"})),
        tools=[interpreter],
    )
    agent.run("go")
    assert "7.2904" in str(actions(agent)[0].observations)


# ---- what is refused


def test_names_that_stand_for_two_things() -> None:
    with pytest.raises(ValueError, match="unique name"):
        code_agent("", tools=[double, double])
    with pytest.raises(ValueError, match="valid Python identifier"):
        code_agent("", name="not a name")


def test_there_is_no_gradio() -> None:
    with pytest.raises(AttributeError, match="GradioUI"):
        _ = face.GradioUI


def test_all_names_are_there() -> None:
    for name in face.__all__:
        assert getattr(face, name) is not None


# ---- the log


def test_what_is_printed() -> None:
    from rich.console import Console

    out = io.StringIO()
    logger = AgentLogger(LogLevel.INFO, Console(file=out, width=100))
    agent = CodeAgent([], Scripted(code("secret=3;['1'][secret]"), code("final_answer('[red]x')")), logger=logger)
    agent.run("go")
    agent.replay()
    agent.visualize()
    text = out.getvalue()
    for words in ("New run", "Step 1", "['1'][secret]", "IndexError", "Final answer: [red]x", "CodeAgent | scripted"):
        assert words in text


def test_a_model_without_generate_is_none() -> None:
    with pytest.raises(TypeError, match="no `generate`"):
        CodeAgent([], Model())


# ---- what wherry brings along


def test_hooks_limits_and_the_journal_are_there_too() -> None:
    from wherry import open_store
    from wherry.journal import read_events

    class Heard:
        def __init__(self) -> None:
            self.types: list[str] = []

        def on_event(self, event: Any) -> None:
            self.types.append(event.type.value)

    heard, store = Heard(), open_store("memory://")
    agent = code_agent(code("final_answer(1)"), hooks=[heard], store=store)
    agent.run("go")
    assert agent.run_id is not None
    assert [event.type.value for event in read_events(store, agent.run_id)] == heard.types


def test_an_error_that_ends_a_run_names_it() -> None:
    agent = code_agent(RuntimeError("down"))
    with pytest.raises(AgentError) as caught:
        agent.run("go")
    assert caught.value.run_id == agent.run_id is not None


def test_what_is_changed_in_an_agent_holds_from_the_next_run_on() -> None:
    agent = code_agent(code("x = 1"))
    agent.max_steps = 2
    agent.instructions = "Be brief."
    agent.run("go")
    assert "Be brief." in str(cast("Scripted", agent.model).asked[0][0].content)
    assert len(actions(agent)) == 3
    agent.model = Scripted(code("final_answer('other')"))
    assert agent.run("go") == "other"


def test_a_program_may_run_an_agent_in_a_tool_of_another() -> None:
    inner = code_agent(code("final_answer('inner')"))

    @tool
    def ask(what: str) -> str:
        """Asks.

        Args:
            what: it
        """
        return inner.run(what)

    outer = code_agent(code("final_answer(ask('x') + ' and outer')"), tools=[ask])
    assert outer.run("go") == "inner and outer"
    assert (len(inner.memory.steps), len(outer.memory.steps)) == (2, 2)


def test_tool_outputs_in_a_stream() -> None:
    agent = tool_agent(calls(("double", {"n": 4})), calls(("final_answer", {"answer": "8"})), tools=[double])
    outputs = [item for item in agent.run("go", stream=True) if isinstance(item, face.ToolOutput)]
    assert [(one.output, one.is_final_answer, one.tool_call.name) for one in outputs] == [
        (8, False, "double"),
        ("8", True, "final_answer"),
    ]


def test_a_long_history_stays_inside_the_window() -> None:
    model = Scripted(code("print('word ' * 2000)"))
    model.window = 4096  # pyright: ignore[reportAttributeAccessIssue] - as a subclass would say it
    agent = CodeAgent([], model, verbosity_level=LogLevel.OFF, max_steps=30)
    agent.run("go")
    sizes = [sum(len(str(message.content)) for message in asked) for asked in model.asked]
    assert max(sizes) < 4 * 4096
    assert len(model.asked) == 31


def test_web_tools_refuse_what_is_not_public() -> None:
    from wherry.errors import ToolError

    with pytest.raises(ToolError):
        face.VisitWebpageTool()(url="http://127.0.0.1:9/secret")
