"""What goes wrong in programs: nobody at the terminal, code that ends itself, functions and choosers that fail."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wherry import FunctionModel, ScriptedModel
from wherry.compat.autogen import AssistantAgent, GroupChat, GroupChatManager, UserProxyAgent
from wherry.compat.autogen.coding import CodeBlock, LocalCommandLineCodeExecutor
from wherry.errors import ModelError
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


def assistant(*replies: Any, name: str = "assistant") -> AssistantAgent:
    return AssistantAgent(name, llm_config={"config_list": [{"model": ScriptedModel(replies)}]})


def user(**options: Any) -> UserProxyAgent:
    given: dict[str, Any] = {"human_input_mode": "NEVER", "code_execution_config": False, **options}
    return UserProxyAgent("user", **given)


@pytest.mark.parametrize(
    "options", [{"human_input_mode": "ALWAYS"}, {"human_input_mode": "TERMINATE", "max_consecutive_auto_reply": 0}]
)
def test_nobody_at_the_terminal_ends_the_chat(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    result = user(**options).initiate_chat(assistant("What do you say?"), message="hello")
    assert [message["content"] for message in result.chat_history] == ["hello", "What do you say?"]
    assert result.summary == "What do you say?"
    assert "end of input" in capsys.readouterr().out


def test_nobody_chooses_a_speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ann, bo = assistant("one", "three", name="ann"), assistant("two", name="bo")
    group = GroupChat([ann, bo], [], 3, speaker_selection_method="manual")
    ann.initiate_chat(GroupChatManager(group, llm_config=False), message="go", silent=True)
    assert [message["name"] for message in group.messages] == ["ann", "bo", "ann"]


def test_no_message_and_nobody_to_ask_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(EOFError):
        user().initiate_chat(assistant("hello"))


@pytest.mark.parametrize(
    ("code", "exit_code", "output"),
    [
        ("import sys\nprint('done')\nsys.exit(0)", 0, "done\n"),
        ("raise SystemExit", 0, ""),
        ("print('bad')\nexit(3)", 3, "bad\n"),
        ("quit()", 0, ""),
        ("import sys\nsys.exit('no such file')", 1, "no such file\n"),
        ("def main():\n    print('main')\n\nif __name__ == '__main__':\n    main()", 0, "main\n"),
    ],
)
def test_code_that_ends_itself(code: str, exit_code: int, output: str) -> None:
    done = LocalCommandLineCodeExecutor().execute_code_blocks([CodeBlock(code=code, language="python")])
    assert (done.exit_code, done.output) == (exit_code, output)


def test_code_that_fails_tells_where() -> None:
    done = LocalCommandLineCodeExecutor().execute_code_blocks([CodeBlock(code="a = 1\na / 0", language="python")])
    assert done.exit_code == 1
    assert "line 2" in done.output
    assert "ZeroDivisionError" in done.output


def test_a_file_that_was_saved_is_run(tmp_path: Path) -> None:
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    saved = executor.execute_code_blocks([CodeBlock(code="# filename: made.py\nprint('made')", language="python")])
    assert saved.exit_code == 0
    done = executor.execute_code_blocks([CodeBlock(code="# run it\npython3 made.py", language="sh")])
    assert (done.exit_code, done.output) == (0, "made\n")
    (tmp_path / "bad.py").write_text("exit(7)")
    assert (
        executor.execute_code_blocks([CodeBlock(code="python bad.py\npython made.py", language="bash")]).exit_code == 7
    )
    for line, status, said in (
        ("ls", 1, "there is no shell"),
        ("rm -rf .", 1, "there is no shell"),
        ("python ../made.py", 2, "there is no file ../made.py"),
        ("python missing.py", 2, "there is no file missing.py"),
    ):
        done = executor.execute_code_blocks([CodeBlock(code=line, language="sh")])
        assert done.exit_code == status
        assert said in done.output


def test_files_stay_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "coding").mkdir()
    code = "# filename: ../escaped.py\nopen('made.txt', 'w').write('x')"
    done = LocalCommandLineCodeExecutor(work_dir=tmp_path / "coding").execute_code_blocks(
        [CodeBlock(code=code, language="python")]
    )
    assert done.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["coding"]
    assert [path.name for path in (tmp_path / "coding").iterdir()] == ["made.txt"]


@pytest.mark.parametrize("most", [0, -1])
def test_no_replies_by_itself(most: int) -> None:
    result = user(max_consecutive_auto_reply=most).initiate_chat(assistant("hi", "never"), message="x", silent=True)
    assert len(result.chat_history) == 2


def test_no_turns() -> None:
    result = user().initiate_chat(assistant("never"), message="x", max_turns=0, silent=True)
    assert (result.chat_history, result.summary) == ([], "")


def test_the_last_message_of_a_conversation_that_was_forgotten() -> None:
    one, two = user(), assistant("hi")
    one.initiate_chat(two, message="x", max_turns=1, silent=True)
    one.clear_history(two)
    assert one.last_message(two) is None


def test_functions_that_fail_are_told() -> None:
    def fails(x: int) -> int:
        raise LookupError(f"no {x}")

    calls = ModelReply(
        tool_calls=[ToolCall("1", "fails", {"x": 1}), ToolCall("2", "fails", {}), ToolCall("3", "nobody", {})]
    )
    result = user(function_map={"fails": fails}).initiate_chat(
        assistant(calls, "I see."), message="x", max_turns=2, silent=True
    )
    told = [one["content"] for one in result.chat_history[2]["tool_responses"]]
    assert told[0] == "Error: no 1"
    assert "missing 1 required positional argument" in told[1]
    assert told[2] == "Error: Function nobody not found."


def test_a_chat_that_ends_within_another_ends_that_one_alone() -> None:
    inner, outer = assistant("inner is done TERMINATE", name="inner"), user(max_consecutive_auto_reply=1)
    middle = AssistantAgent("middle", llm_config=False)
    middle.register_nested_chats([{"recipient": inner, "max_turns": 1}], trigger=outer)
    result = outer.initiate_chat(middle, message="go", max_turns=2, silent=True)
    assert [message["name"] for message in result.chat_history] == ["user", "middle", "user", "middle"]
    assert result.chat_history[1]["content"].strip() == "inner is done"


def test_choosers_that_fail() -> None:
    ann, bo, cy = (assistant("hm", name=name) for name in ("ann", "bo", "cy"))

    def raises(last: Any, group: GroupChat) -> Any:
        raise RuntimeError("a bad chooser")

    def gives(value: Any) -> Callable[[Any, GroupChat], Any]:
        return lambda last, group: value

    cases: list[tuple[Callable[[Any, GroupChat], Any], type[Exception], str]] = [
        (raises, RuntimeError, "a bad chooser"),
        (gives(cy), ValueError, "not in the group chat"),
        (gives("nobody"), ValueError, "It should be one of"),
        (gives(7), ValueError, "instead of Agent or str"),
    ]
    for chooser, error, words in cases:
        group = GroupChat([ann, bo], [], 3, speaker_selection_method=chooser)
        with pytest.raises(error, match=words):
            ann.initiate_chat(GroupChatManager(group, llm_config=False), message="x", silent=True)


@pytest.mark.anyio
async def test_failures_reach_who_awaits() -> None:
    def fails(request: ModelRequest) -> str:
        raise ValueError("a bug in a model")

    broken = AssistantAgent("broken", llm_config={"config_list": [{"model": FunctionModel(fails)}]})
    with pytest.raises(ModelError, match="a bug in a model"):
        await user().a_initiate_chat(broken, message="x", silent=True)

    class Person(UserProxyAgent):
        async def a_get_human_input(self, prompt: str) -> str:
            raise EOFError

    person = Person("person", code_execution_config=False)
    result = await person.a_initiate_chat(assistant("Anybody there?"), message="x", silent=True)
    assert len(result.chat_history) == 2
