"""Executors: files that import one another, functions of the program, shell lines, what is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import ScriptedModel
from wherry.compat.autogen import AssistantAgent, UserProxyAgent
from wherry.compat.autogen.code_utils import content_str, create_virtual_env, decide_use_docker, execute_code
from wherry.compat.autogen.coding import (
    CodeBlock,
    CodeExecutor,
    DockerCommandLineCodeExecutor,
    LocalCommandLineCodeExecutor,
    MarkdownCodeExtractor,
    SandboxExecutor,
)
from wherry.compat.autogen.coding.func_with_reqs import (
    Alias,
    FunctionWithRequirements,
    ImportFromModule,
    module_of,
    to_stub,
    with_requirements,
)
from wherry.compat.autogen.coding.sandbox_executor import packages_in
from wherry.compat.autogen.coding.shell_lines import Install, RunFile, RunText, Unknown, commands, required


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


def run(executor: SandboxExecutor, code: str, language: str = "python") -> tuple[int, str]:
    done = executor.execute_code_blocks([CodeBlock(code=code, language=language)])
    return done.exit_code, done.output


# -- files of the work folder ------------------------------------------------------------------------------------------


def test_files_that_blocks_saved_import_one_another(tmp_path: Path) -> None:
    said = (
        "```python\n# filename: area.py\ndef area(r):\n    return 3 * r * r\n```\n"
        "```python\n# filename: main.py\nfrom area import area\nprint(area(2))\n```"
    )
    assistant = AssistantAgent("a", llm_config={"config_list": [{"model": ScriptedModel([said, "Twelve."])}]})
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    user = UserProxyAgent("u", human_input_mode="NEVER", code_execution_config={"executor": executor})
    done = user.initiate_chat(assistant, message="Area?", max_turns=2, silent=True)
    assert done.chat_history[2]["content"] == "exitcode: 0 (execution succeeded)\nCode output: 12\n"
    assert run(executor, "python main.py", "sh") == (0, "12\n")


def test_the_first_file_that_was_saved_is_told(tmp_path: Path) -> None:
    blocks = [CodeBlock(code=code, language="python") for code in ("1", "# filename: a/b.py\n2", "# filename: c.py\n3")]
    done = LocalCommandLineCodeExecutor(work_dir=tmp_path).execute_code_blocks(blocks)
    assert done.code_file == str(tmp_path / "a" / "b.py")


def test_arguments_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text("import sys\nprint(sys.argv)\n")
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    assert run(executor, "python show.py --n 2 'a b'", "sh") == (0, "['show.py', '--n', '2', 'a b']\n")
    assert run(executor, "python -c 'import sys; print(sys.argv)' x", "bash") == (0, "['-c', 'x']\n")


def test_languages_that_are_saved(tmp_path: Path) -> None:
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path, execution_policies={"python": False})
    status, said = run(executor, "<!-- filename: page.html -->\n<p>Hi</p>", "html")
    assert (status, said) == (0, f"Code saved to {tmp_path / 'page.html'}\n")
    assert "<p>Hi</p>" in (tmp_path / "page.html").read_text()
    assert run(executor, "1 / 0")[0] == 0
    assert run(executor, "p { color: red }", "css")[0] == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".css", ".html", ".python"]
    status, said = run(LocalCommandLineCodeExecutor(), "p {}", "css")
    assert status == 1
    assert "unknown language css" in said


def test_environments_in_the_folder_stay_outside(tmp_path: Path) -> None:
    made = create_virtual_env(tmp_path / "env", with_pip=False)
    assert made.env_name == "env"
    assert Path(made.env_exe).exists()
    (tmp_path / "data.txt").write_text("7")
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    assert run(executor, "import os\nprint(os.listdir('.'))") == (0, "['data.txt']\n")
    assert packages_in(made) == []
    found = next(Path(made.env_dir).glob("lib*/**/site-packages")) / "thing-1.2.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.2\n")
    assert packages_in(made) == ["thing==1.2"]


# -- functions of the program ------------------------------------------------------------------------------------------


def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


@with_requirements(
    python_packages=["thing"],
    global_imports=["json", ImportFromModule("math", ["pi", Alias("sqrt", "root")])],
)
def circle(
    r: float,
) -> str:
    return json.dumps([pi, root(r)])  # type: ignore # noqa: F821 - imported where it runs


def test_code_imports_functions_of_the_program(tmp_path: Path) -> None:
    text = FunctionWithRequirements.from_str("def half(x):\n    return x // 2")
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path, functions=[double, text], functions_module="given")
    assert run(executor, "from given import double, half\nprint(half(double(21)))") == (0, "21\n")
    assert "def double" in (tmp_path / "given.py").read_text()
    assert (
        run(LocalCommandLineCodeExecutor(functions=[double]), "import functions as f\nprint(f.double(2))")[1] == "4\n"
    )


def test_what_functions_need_goes_with_them() -> None:
    assert LocalCommandLineCodeExecutor(functions=[circle, double]).packages == ["thing"]
    text = module_of([circle, double])
    assert text.startswith("import json\nfrom math import pi, sqrt as root\n")
    assert "@with_requirements" not in text
    namespace: dict[str, object] = {}
    exec(text, namespace)
    assert {"circle", "double"} <= namespace.keys()
    assert circle.__name__ == "circle"  # type: ignore


def test_a_model_is_told_of_functions() -> None:
    executor = LocalCommandLineCodeExecutor(functions=[double, circle])
    assert to_stub(double) == 'def double(x: int) -> int:\n    """Twice as much."""\n    ...'
    assert executor.format_functions_for_prompt("$module_name\n$functions") == (
        f"functions\n{to_stub(double)}\n\ndef circle(r: float) -> str:\n    ..."
    )
    assert "from functions import" in executor.format_functions_for_prompt()


@pytest.mark.parametrize("text", ["def f(:\n    pass", "x = 1", "def f(): ...\ndef g(): ..."])
def test_texts_that_are_no_function(text: str) -> None:
    with pytest.raises(ValueError, match=r"exactly one function|Could not compile"):
        FunctionWithRequirements.from_str(text)


def test_functions_whose_text_is_nowhere() -> None:
    with pytest.raises(ValueError, match=r"'len' is in no file: give it by FunctionWithRequirements.from_str"):
        to_stub(len)
    with pytest.raises(ValueError, match="no function written with `def`"):
        to_stub(NAMELESS)


NAMELESS: Callable[[int], int] = lambda x: x  # noqa: E731


def test_no_name_of_a_module() -> None:
    with pytest.raises(ValueError, match="identifier"):
        LocalCommandLineCodeExecutor(functions_module="a-b")


# -- shell -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("pip install -q -U numpy 'pandas>=2' # both", [Install(("numpy", "pandas>=2"))]),
        ("pip install numpy>=1.20 --index-url x.org", [Install(("numpy>=1.20",))]),
        ("$ python3 -m pip install a \\\n b", [Install(("a", "b"))]),
        ("pip install -r wanted.txt", [Install((), ("wanted.txt",))]),
        ("pip install a && python -u b.py; python c.py d", [Install(("a",)), RunFile("b.py"), RunFile("c.py", ("d",))]),
        ("python -c 'print(1)'", [RunText("print(1)")]),
        ("# nothing\n\n", []),
        ("python a.py | sort", [Unknown("python a.py | sort")]),
        ("echo 'a", [Unknown("echo 'a")]),
        ("python", [Unknown("python")]),
    ],
)
def test_commands(code: str, found: list[object]) -> None:
    assert commands(code) == found


@given(st.text(max_size=60))
def test_any_text_is_commands_or_refused(code: str) -> None:
    for one in commands(code):
        assert isinstance(one, Install | RunFile | RunText | Unknown)


def test_a_file_of_requirements(tmp_path: Path) -> None:
    assert required("# for plots\nnumpy>=2 # fast\n\n-e .\npandas\n") == ["numpy>=2", "pandas"]
    (tmp_path / "wanted.txt").write_text("numpy\n")
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    assert run(executor, "pip install -r wanted.txt", "sh") == (0, "available from now on: numpy")
    assert executor.packages == ["numpy"]
    assert run(executor, "pip install -r other.txt", "sh")[0] == 1


# -- shapes that programs use ------------------------------------------------------------------------------------------


def test_executors_take_what_autogen_has_them_take(tmp_path: Path) -> None:
    local = LocalCommandLineCodeExecutor(30, None, tmp_path, [double])
    assert (local.timeout, local.work_dir, local.functions) == (30, tmp_path, [double])
    with DockerCommandLineCodeExecutor("python:3-slim", "box", 20, tmp_path, auto_remove=False) as docker:
        assert (docker.timeout, docker.bind_dir) == (20, tmp_path)
    assert isinstance(local, CodeExecutor)


def test_blocks_of_no_language() -> None:
    found = MarkdownCodeExtractor().extract_code_blocks("```\npython a.py\n```\n```\nprint(1)\n```")
    assert [(one.language, one.code) for one in found] == [("sh", "python a.py"), ("python", "print(1)")]
    assert MarkdownCodeExtractor().extract_code_blocks("no code") == []


@pytest.mark.slow
def test_code_that_takes_too_long() -> None:
    assert execute_code("while True: pass", timeout=1) == (1, "Timeout", None)


def test_docker_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decide_use_docker(False) is False
    found: list[object] = []
    for said in ("Yes", "0", "None"):
        monkeypatch.setenv("AUTOGEN_USE_DOCKER", said)
        found.append(decide_use_docker(None))
    assert found == [True, False, None]
    monkeypatch.setenv("AUTOGEN_USE_DOCKER", "maybe")
    with pytest.raises(ValueError, match="maybe"):
        decide_use_docker(None)


def test_parts_that_are_neither_text_nor_picture() -> None:
    assert content_str([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]) == "a<image>"
    with pytest.raises(ValueError, match="unknown type sound"):
        content_str([{"type": "sound"}])
