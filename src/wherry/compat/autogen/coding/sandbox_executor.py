"""Code of models, run in wherry's sandbox: real CPython in a jail, whatever the executor is called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from string import Template
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast  # Any: options of others' executors

from wherry.agents import portal
from wherry.compat.autogen.coding.base import CodeBlock, CommandLineCodeResult
from wherry.compat.autogen.coding.func_with_reqs import Offered, module_of, packages_of, to_stub
from wherry.compat.autogen.coding.markdown_code_extractor import MarkdownCodeExtractor
from wherry.compat.autogen.coding.shell_lines import Install, RunFile, RunText, Unknown, commands, required
from wherry.errors import ConfigurationError, SandboxError
from wherry.tools.threads import run_in_thread

if TYPE_CHECKING:
    from wherry.sandbox import Sandbox

_PYTHON = frozenset({"python", "py", "python3", ""})
_SHELL = frozenset({"sh", "bash", "shell", "console"})
_SAVED = {"javascript": "js", "js": "js", "html": "html", "css": "css"}
"""Languages whose blocks are files for others to read, and the endings of their names."""
_NAME = re.compile(r"^(?:#|//|/\*|<!--)\s*filename:\s*(\S+)", re.IGNORECASE)
_BEGIN = "def exit(code=None):\n    raise SystemExit(code)\nquit = exit"
"""Programs end themselves by these; where code is a step of an agent's, they would mean nothing."""
_PLACE = "import os, sys\nsys.path.insert(0, os.getcwd())\nsys.argv = {!r}\ndel os, sys"
"""Files of the work folder import one another."""
_ENDED = re.compile(r"^SystemExit(?:: (.*?))?\. A snippet cannot end the program", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"-?\d+$")
_OWN_OF_ENVIRONMENTS = frozenset({"pip", "setuptools", "wheel"})
SECONDS = 60.0


class SandboxExecutor:
    """Runs Python in wherry's sandbox, each block by itself; the files of the work folder go in, and come out changed.

    Blocks of shell may install packages (`pip install ...`), which the blocks behind them then have, and run files of
    the work folder (`python made.py`); there is no shell in the sandbox for anything else. Blocks of JavaScript, HTML
    and CSS are saved to the work folder.

    Args:
        timeout: Seconds for a block.
        work_dir: A folder; None: nothing goes in, nothing comes out.
        sandbox: The tier, as code agents have it.
        packages: What can be imported beyond the standard library.
        functions: Functions of the program's that code may import, from a module of the name `functions_module`.
        virtual_env_context: Of `create_virtual_env`: its packages can be imported.
        execution_policies: By language, whether blocks are run; else they are saved.
        options: What else other executors take is taken, and means nothing here.

    Raises:
        ValueError: `timeout` is less than a second, or `functions_module` is no name of a module.
    """

    FUNCTION_PROMPT_TEMPLATE: ClassVar[str] = (
        "These functions are in the module `$module_name`; write `from $module_name import NAME` to call one.\n\n"
        "$functions"
    )

    _between: ClassVar[str] = "\n"
    """What is between the outputs of blocks."""

    def __init__(
        self,
        timeout: float = SECONDS,
        work_dir: Path | str | None = None,
        *,
        sandbox: str = "auto",
        packages: Sequence[str] = (),
        functions: Sequence[Offered] = (),
        functions_module: str = "functions",
        virtual_env_context: SimpleNamespace | None = None,
        execution_policies: Mapping[str, bool] | None = None,
        **options: Any,
    ) -> None:
        if timeout < 1:
            raise ValueError("Timeout must be greater than or equal to 1.")
        if not functions_module.isidentifier():
            raise ValueError("Module name must be a valid Python identifier")
        self.timeout = timeout
        self.work_dir = None if work_dir is None else Path(work_dir)
        self.packages = list(dict.fromkeys([*packages, *packages_of(functions)]))
        self.functions = [*functions]
        self.functions_module = functions_module
        self.execution_policies: dict[str, bool] = dict(execution_policies or {})
        self._environment = virtual_env_context
        self._sandbox = sandbox

    @property
    def code_extractor(self) -> MarkdownCodeExtractor:
        return MarkdownCodeExtractor()

    def format_functions_for_prompt(self, prompt_template: str = FUNCTION_PROMPT_TEMPLATE) -> str:
        """What a model is to be told of the functions.

        Args:
            prompt_template: With `$module_name` and `$functions`.
        """
        stubs = "\n\n".join(map(to_stub, self.functions))
        return Template(prompt_template).substitute(module_name=self.functions_module, functions=stubs)

    def execute_code_blocks(self, code_blocks: Sequence[CodeBlock]) -> CommandLineCodeResult:
        """Run blocks in their order, up to the first that fails."""
        output, file = "", None
        for block in code_blocks:
            done = self._execute(block.language.lower(), block.code)
            output += f"{self._between}{done.output}" if output and done.output else done.output
            file = file or done.code_file
            if done.exit_code != 0:
                return CommandLineCodeResult(exit_code=done.exit_code, output=output, code_file=file)
        return CommandLineCodeResult(exit_code=0, output=output, code_file=file)

    def restart(self) -> None:
        """Every block has a session of its own: nothing is to be restarted."""

    def stop(self) -> None:
        """Nothing runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def _execute(self, language: str, code: str) -> CommandLineCodeResult:
        runs = self.execution_policies.get(language, language not in _SAVED)
        if not runs and self.work_dir is not None:
            path = self._save(code) or self._save(code, f"tmp_code_{_digest(code)}.{_SAVED.get(language, language)}")
            return _result(0, f"Code saved to {path}\n", path)
        if language in _PYTHON:
            path = self._save(code)
            return _result(*portal.call(partial(self._run, code, [path.name if path else ""])), path)
        if language in _SHELL:
            return _result(*self._shell(code))
        return _result(1, f"unknown language {language}: the sandbox runs Python")

    def _save(self, code: str, name: str | None = None) -> Path | None:
        """Write it to the work folder, under the name that its first line gives, if it gives one."""
        named = _NAME.match(code)
        name = named[1] if named else name
        path = None if self.work_dir is None or name is None else _below(self.work_dir, name)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, "utf-8")
        return path

    def _shell(self, code: str) -> tuple[int, str]:
        """Commands that install packages, or run a file of the work folder."""
        said: list[str] = []
        for command in commands(code):
            status, output = 0, ""
            match command:
                case Install():
                    status, output = self._install(command)
                case RunText(text, arguments):
                    status, output = portal.call(partial(self._run, text, ["-c", *arguments]))
                case RunFile(name, arguments) if (path := self._file(name)) is not None:
                    text = path.read_text("utf-8")
                    status, output = portal.call(partial(self._run, text, [name, *arguments]))
                case RunFile(name):
                    status, output = 2, f"there is no file {name} in the work folder"
                case Unknown(line):
                    status, output = 1, f"there is no shell in the sandbox ({line[:80]}): write it in Python"
            said.append(output)
            if status:
                return status, "\n".join(said)
        return 0, "\n".join(said)

    def _install(self, command: Install) -> tuple[int, str]:
        wanted = [*command.packages]
        for name in command.files:
            if (path := self._file(name)) is None:
                return 1, f"there is no file {name} in the work folder"
            wanted += required(path.read_text("utf-8"))
        self.packages += [name for name in wanted if name not in self.packages]
        return 0, f"available from now on: {', '.join(wanted)}"

    def _file(self, name: str) -> Path | None:
        path = None if self.work_dir is None else _below(self.work_dir, name)
        return path if path is not None and path.is_file() else None

    async def _run(self, code: str, arguments: Sequence[str]) -> tuple[int, str]:
        from wherry.sandbox import Conditions, SandboxLimits, get_sandbox
        from wherry.sandbox.snippet import new_seed

        folder = self.work_dir
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        first = [_BEGIN, _PLACE.format([*arguments])]
        if self.functions:
            first.append(f"open({self.functions_module + '.py'!r}, 'w').write({module_of(self.functions)!r})")
        try:
            limits = SandboxLimits(wall_seconds=float(self.timeout))
            packages = [*self.packages, *packages_in(self._environment)]
            make = partial(get_sandbox, self._sandbox, limits=limits, packages=packages)
            sandbox = cast("Sandbox", await run_in_thread(make, timeout=None))  # packages are installed
            files = _given(folder) if folder is not None else []
            session = await sandbox.open(tools=(), variables={}, files=files)
        except (ConfigurationError, SandboxError) as error:
            return 1, error.message
        try:
            for part in first:
                await session.run(part, call_tool=_no_tools, tools=(), conditions=Conditions(new_seed()))
            done = await session.run(code, call_tool=_no_tools, tools=(), conditions=Conditions(new_seed()))
            if folder is not None:
                for file in (await session.collect_files()).files:
                    if (path := _below(folder, file.name)) is not None:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(file.data)
        finally:
            await session.close()
        if done.kind == "timeout":
            return 124, f"{done.stdout}{done.stderr}Timeout: {done.error}"
        printed = done.stdout + done.stderr
        if done.ok or (ended := _ENDED.search(done.error)) is None:
            return (0, printed) if done.ok else (1, printed + done.error)
        said = "0" if ended[1] in (None, "", "None") else ended[1]  # a program that ends itself has no traceback
        return (int(said) % 256, printed) if _STATUS.match(said) else (1, f"{printed}{said}\n")


class LocalCommandLineCodeExecutor(SandboxExecutor):
    """`SandboxExecutor`, with the arguments of AutoGen's executor of that name."""

    _between = ""

    def __init__(
        self,
        timeout: float = SECONDS,
        virtual_env_context: SimpleNamespace | None = None,
        work_dir: Path | str | None = None,
        functions: Sequence[Offered] = (),
        functions_module: str = "functions",
        execution_policies: Mapping[str, bool] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            timeout,
            work_dir,
            functions=functions,
            functions_module=functions_module,
            virtual_env_context=virtual_env_context,
            execution_policies=execution_policies,
            **options,
        )


class DockerCommandLineCodeExecutor(SandboxExecutor):
    """`SandboxExecutor`, with the arguments of AutoGen's executor of that name; there is no container."""

    _between = ""

    def __init__(
        self,
        image: str = "",
        container_name: str | None = None,
        timeout: float = SECONDS,
        work_dir: Path | str | None = None,
        bind_dir: Path | str | None = None,
        auto_remove: bool = True,
        stop_container: bool = True,
        execution_policies: Mapping[str, bool] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(timeout, work_dir, execution_policies=execution_policies, **options)
        self.bind_dir = self.work_dir if bind_dir is None else Path(bind_dir)


def _result(status: int, output: str, file: Path | None = None) -> CommandLineCodeResult:
    return CommandLineCodeResult(exit_code=status, output=output, code_file=None if file is None else str(file))


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:32]


def _given(folder: Path) -> list[Path]:
    """What goes in of a work folder: not the environments that programs keep there, which are of no use inside."""
    return [path for path in folder.iterdir() if not (path / "pyvenv.cfg").exists() and path.name != ".git"]


def packages_in(environment: SimpleNamespace | None) -> list[str]:
    """What is installed in a virtual environment, which code of other processes cannot enter."""
    if environment is None:
        return []
    places = [str(path) for path in Path(environment.env_dir).glob("lib*/**/site-packages")]
    found = {one.name: one.version for one in distributions(path=places)}
    return sorted(f"{name}=={version}" for name, version in found.items() if name not in _OWN_OF_ENVIRONMENTS)


def _below(folder: Path, name: str) -> Path | None:
    """Where a file of that name belongs, if that is in the folder: names come from code that a model wrote."""
    root = folder.resolve()
    path = (root / name).resolve()
    return path if path.is_relative_to(root) and path != root else None


async def _no_tools(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    raise LookupError(f"there is no function {name}")
