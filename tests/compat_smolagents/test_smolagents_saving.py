"""Tools and agents that are saved as code, and loaded again."""

from __future__ import annotations

import json
import linecache
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compat_smolagents.test_smolagents_face import Scripted, actions, calls, code, code_agent, double, tool_agent

from wherry.compat.smolagents import (
    EMPTY_PROMPT_TEMPLATES,
    ChatMessage,
    CodeAgent,
    FinalAnswerTool,
    InferenceClientModel,
    LiteLLMModel,
    LiteLLMRouterModel,
    Model,
    OpenAIModel,
    Tool,
    ToolCallingAgent,
    VisitWebpageTool,
    tool,
)
from wherry.compat.smolagents.models import MODEL_REGISTRY
from wherry.compat.smolagents.source import get_imports
from wherry.compat.smolagents.utils import get_source
from wherry.errors import ConfigurationError

WORDS = "ahoy"


class Shout(Tool):
    """Makes a text loud."""

    name = "shout"
    description = f'Says {WORDS}.\n"Loudly".'
    inputs = {
        "text": {"type": "string", "description": "what"},
        "n": {"type": "integer", "description": "", "nullable": True},
    }
    output_type = "string"

    def __init__(self, mark: str = "!") -> None:
        super().__init__()
        self.mark = mark

    # how loud
    def forward(self, text: str, n: int | None = None) -> str:
        import textwrap

        return textwrap.dedent(text).upper() + self.mark * (n or self.most())

    @staticmethod
    def most() -> int:
        return 2


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


# ---- tools


def test_a_class_comes_back_as_it_was(tmp_path: Path) -> None:
    Shout().save(tmp_path, "loud")
    text = (tmp_path / "loud.py").read_text()
    assert (tmp_path / "requirements.txt").read_text() == "smolagents\n"
    assert "# how loud" in text
    for read in (Tool.from_code(text), Tool.from_dict(Shout().to_dict(), mark="!")):
        assert (read.name, read.description, read.inputs) == (Shout.name, Shout.description, Shout.inputs)
        assert (read("a b", n=1), read("x")) == ("A B!", "X!!")
    assert Tool.from_dict(Shout().to_dict(), mark="?")("x") == "X??"
    assert read.to_dict() == Shout().to_dict()  # and can be saved again


def test_a_function_comes_back_as_it_was() -> None:
    @tool
    def pick(kind: Literal["a", "b"], most: int = 1_000, sep: str | None = ", ") -> str:
        """Picks
        some.

        Args:
            kind: which
            most: how many
            sep: between
        """
        lines = f"""{kind}
  {most}"""
        return f"{lines}{sep}"

    saved = pick.to_dict()
    assert saved["requirements"] == ["smolagents"]
    assert 'most: int = 1_000, sep: str | None = ", "' in saved["code"]
    read = Tool.from_dict(saved)
    assert (read.name, read.description, read.inputs) == ("pick", pick.description, pick.inputs)
    assert read("a") == pick("a") == "a\n  1000, "
    assert "def forward(self" in get_source(read.forward)


_numbers = count()


@given(
    st.text(st.characters(codec="utf-8", exclude_characters='\\"\r\x00', exclude_categories=["Cc", "Cs", "Zl", "Zp"])),
    st.one_of(st.integers(), st.text(), st.none(), st.booleans(), st.lists(st.text(), max_size=2)),
    st.integers(0, 3),
)
def test_whatever_a_function_says_is_kept(said: str, default: Any, depth: int) -> None:
    written = (
        f'def f(a: Any, b: Any = {default!r}) -> Any:\n    """Does x{said}\n\n    Args:\n        a: an {said}a\n'
        f'        b: b\n    """\n    c = """{said}\n  {said}"""\n    return [a, b, c]\n'
    )
    pad = "    " * depth
    file, space = f"<written {next(_numbers)}>", dict[str, Any]()
    text = "".join(f"if True:\n{'    ' * (n + 1)}" for n in range(depth)) + written.replace("\n    ", f"\n{pad}    ")
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(f"{text}", file, "exec"), {"Any": Any}, space)
    made = tool(space["f"])
    read = Tool.from_dict(made.to_dict())
    assert (read.description, read.inputs, read.output_type) == (made.description, made.inputs, made.output_type)
    assert read(1) == made(1)


def test_what_a_tool_does_not_bring_along_is_said() -> None:
    @tool
    def lost() -> str:
        """Says a word."""
        return WORDS

    class Wants(Shout):
        name = "wants"

    class Needs(Tool):
        name, description, inputs, output_type = "needs", "d", {}, "string"

        def __init__(self, url: str) -> None:
            super().__init__()
            self.url = url

        def forward(self) -> str:
            return self.url

    with pytest.raises(ValueError, match="'WORDS' is undefined"):
        lost.to_dict()
    with pytest.raises(ValueError, match="base class is another tool"):
        Wants().to_dict()
    with pytest.raises(ValueError, match="must have default values, found required parameters: url"):
        Needs("u").to_dict()
    with pytest.raises(ValueError, match="must contain 'code' key"):
        Tool.from_dict({"name": "x"})
    with pytest.raises(ValueError, match="No Tool subclass"):
        Tool.from_code("x = 1")


def test_decorators_are_not_saved_and_that_is_said() -> None:
    def same(function: Any) -> Any:
        return function

    @tool
    @same
    def one() -> int:
        """Gives one."""
        return 1

    with pytest.warns(UserWarning, match="decorators other than @tool, which are not saved: same"):
        saved = one.to_dict()
    assert Tool.from_dict(saved)() == 1


def test_tools_that_come_along_are_saved_by_their_names() -> None:
    class Louder(FinalAnswerTool):
        def forward(self, answer: Any) -> Any:
            return f"{answer}!"

    read = Tool.from_dict(VisitWebpageTool(max_output_length=7).to_dict())
    assert type(read) is VisitWebpageTool
    assert Tool.from_dict(Louder().to_dict())("so") == "so!"


def test_code_that_smolagents_saved_is_read() -> None:
    plain = Tool.from_code(
        "from typing import Any, Optional\nfrom smolagents.tools import Tool\nimport smolagents as s\n\n"
        "class Old(Tool):\n    name = 'old'\n    description = 'd'\n    output_type = 'string'\n"
        "    inputs = \"{'x': {'type': 'string', 'description': 'x'}}\"\n"
        "    def forward(self, x: str) -> str:\n        return x + s.__name__\n"
        "    def __init__(self, *args, **kwargs):\n        self.is_initialized = False\n"
    )
    assert plain("a") == "awherry.compat.smolagents"
    made = Tool.from_code("import smolagents\n@smolagents.tool\ndef one() -> int:\n    'Gives one.'\n    return 1\n")
    assert (made.name, made()) == ("one", 1)


def test_the_source_of_what_was_written_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {
        "In": ["", "%pip install x", "def f():\n    return 1", "class C:\n    x = 1\ndef f():\n    return 2"]
    }
    for cell in space["In"][2:]:
        exec(cell, space)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(user_ns=space)))
    assert get_source(space["f"]) == "def f():\n    return 2"
    assert get_source(space["C"]) == "class C:\n    x = 1"
    space["In"] = ["x"]
    with pytest.raises(ValueError, match="f in IPython history"):
        get_source(space["f"])
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    with pytest.raises(OSError, match="no source of 'f'"):
        get_source(space["f"])
    with pytest.raises(TypeError, match="class or callable"):
        get_source(3)


def test_imports_that_a_text_cannot_do_without() -> None:
    text = """
        import numpy as np, os.path
        from torch.nn import Linear
        from .near import x
        try:
            import maybe
        except ImportError:
            maybe = None
        if is_fast_available():
            import fast
        def f():
            import late
    """
    assert get_imports(text) == ["numpy", "os", "torch", "late"]


# ---- agents


def team(model: Any) -> CodeAgent:
    below = ToolCallingAgent([double], model, name="below", description="Doubles.", max_steps=3, verbosity_level=-1)
    return CodeAgent(
        [Shout()],
        model,
        managed_agents=[below],
        additional_authorized_imports=["numpy", "json"],
        instructions="Be brief.",
        max_steps=7,
        planning_interval=4,
        code_block_tags=("<run>", "</run>"),
        verbosity_level=-1,
    )


def like(agent: Any) -> None:
    assert type(agent) is CodeAgent
    assert (agent.max_steps, agent.planning_interval, agent.instructions) == (7, 4, "Be brief.")
    assert sorted(agent.additional_authorized_imports) == ["json", "numpy"]
    assert agent.code_block_tags == ("<run>", "</run>")
    assert sorted(agent.tools) == ["final_answer", "shout"]
    below = agent.managed_agents["below"]
    assert (type(below), below.max_steps, below.description) == (ToolCallingAgent, 3, "Doubles.")
    assert below.tools["double"](4) == 8


def test_agents_come_back_from_a_folder(tmp_path: Path) -> None:
    model = OpenAIModel("some-model", api_base="http://127.0.0.1:9/v1", api_key="SECRET", temperature=0.5)
    team(model).save(tmp_path / "crew")
    files = sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file())
    assert "crew/managed_agents/below/tools/double.py" in files
    assert (tmp_path / "crew/requirements.txt").read_text().split() == ["json", "numpy", "smolagents"]
    assert not any("SECRET" in one.read_text() for one in tmp_path.rglob("*") if one.is_file())
    read = CodeAgent.from_folder(tmp_path / "crew")
    like(read)
    assert isinstance(read.model, OpenAIModel)
    assert (read.model.model_id, read.model.api_base) == ("some-model", "http://127.0.0.1:9/v1")
    assert read.model.kwargs == {"temperature": 0.5}
    assert CodeAgent.from_folder(tmp_path / "crew", max_steps=2).max_steps == 2
    like(CodeAgent.from_dict(json.loads(json.dumps(team(model).to_dict()))))


def test_a_folder_of_an_older_version_is_read(tmp_path: Path) -> None:
    data = {"last_input_token_count": 7, "last_output_token_count": None, "model_id": "a/b", "provider": None}
    saved = {
        "tools": ["old"],
        "model": {"class": "HfApiModel", "data": data},
        "managed_agents": {},
        "prompt_templates": {
            "system_prompt": "Use {{authorized_imports}}.",
            "planning": {"initial_facts": "", **EMPTY_PROMPT_TEMPLATES["planning"]},
            "managed_agent": EMPTY_PROMPT_TEMPLATES["managed_agent"],
            "final_answer": EMPTY_PROMPT_TEMPLATES["final_answer"],
        },
        "max_steps": 10,
        "verbosity_level": 2,
        "grammar": None,
        "planning_interval": 2,
        "name": "veteran",
        "description": "d",
        "requirements": ["smolagents"],
        "authorized_imports": ["pandas"],
        "executor_type": "local",
        "executor_kwargs": {},
        "max_print_outputs_length": None,
    }
    (tmp_path / "agent.json").write_text(json.dumps(saved))
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/old.py").write_text(Shout().to_dict()["code"])
    read = CodeAgent.from_folder(tmp_path)
    assert (read.name, read.max_steps, read.additional_authorized_imports) == ("veteran", 10, ["pandas"])
    assert isinstance(read.model, InferenceClientModel)
    assert (read.model.model_id, read.model.kwargs) == ("a/b", {"timeout": 120})
    assert "'pandas'" in read.system_prompt
    assert read.tools["shout"]("x") == "X!!"


def test_an_agent_that_was_loaded_runs(tmp_path: Path) -> None:
    team(Scripted("")).save(tmp_path)
    told = Scripted("A plan.", "<run>\nx = below('Double 21.')\n</run>", calls(("double", {"n": 21})))
    told.said += [calls(("final_answer", {"answer": 42})), "<run>\nfinal_answer(shout(x[-2:], n=1))\n</run>"]
    agent = CodeAgent.from_folder(tmp_path, model=told, verbosity_level=-1)
    like(agent)
    assert agent.run("Do it.") == "42!"
    assert len(actions(agent)) == 2


def test_classes_that_nobody_knows_are_refused() -> None:
    saved = team(Scripted("")).to_dict()
    assert "prompt_templates" not in saved  # whoever reads it has some of its own
    with pytest.raises(ValueError, match=r"Unknown model class 'Scripted'.*OpenAIModel.*give model="):
        CodeAgent.from_dict(saved)
    saved["managed_agents"][0]["class"] = "Pirate"
    with pytest.raises(ValueError, match=r"Unknown agent class 'Pirate'.*CodeAgent, ToolCallingAgent"):
        CodeAgent.from_dict(saved, model=Scripted(""))


def test_what_cannot_be_saved_of_an_agent_is_said(tmp_path: Path) -> None:
    from wherry.tools.builtin import WebSearch

    with pytest.raises(ValueError, match="web_search"):
        tool_agent("", tools=[WebSearch()]).to_dict()
    with pytest.raises(ValueError, match="JSON"):
        CodeAgent([], Scripted(""), verbosity_level=-1, executor_kwargs={"x": object()}).save(tmp_path)
    assert not [*tmp_path.iterdir()]
    for name in ("push_to_hub", "from_hub"):
        with pytest.raises(ConfigurationError, match="hub"):
            getattr(code_agent("x"), name)("me/mine")
    with pytest.raises(ConfigurationError, match="hub"):
        double.push_to_hub("me/mine")


@pytest.mark.parametrize(
    "model",
    [
        OpenAIModel("m", api_key="SECRET", organization="o", max_tokens=9, window=5_000),
        InferenceClientModel("a/b", provider="p", token="SECRET", timeout=7, bill_to="us"),
        InferenceClientModel("http://127.0.0.1:9/v1", api_key="SECRET"),
        LiteLLMModel("ollama/m", api_base="http://127.0.0.1:9", api_key="SECRET", num_ctx=4_096),
        LiteLLMRouterModel("g", [{"model_name": "g", "litellm_params": {"model": "openai/m", "api_key": "SECRET"}}]),
    ],
    ids=lambda model: type(model).__name__,
)
def test_models_come_back_without_their_keys(model: Model) -> None:
    saved = model.to_dict()
    assert "SECRET" not in json.dumps(saved)
    again = MODEL_REGISTRY[type(model).__name__].from_dict(saved)
    assert (again.model_id, again.kwargs, again.to_dict()) == (model.model_id, model.kwargs, saved)
    assert getattr(again, "window", None) == getattr(model, "window", None)


def test_steps_as_json_have_what_a_server_sent() -> None:
    class Sent:
        def __repr__(self) -> str:
            return "Sent(7)"

    said = ChatMessage(cast("Any", "assistant"), code("final_answer(1)"), raw=Sent())
    agent = code_agent(said)
    agent.run("go")
    assert "Sent(7)" in json.dumps(agent.memory.get_full_steps())
