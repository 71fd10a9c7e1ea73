"""Code of models, run in wherry's sandbox: real CPython in a jail, whatever the executor is called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable  # Any: settings

from wherry.agents import portal
from wherry.compat.autogen.messages import content_str
from wherry.errors import ConfigurationError, SandboxError
from wherry.tools.threads import run_in_thread

if TYPE_CHECKING:
    from wherry.sandbox import Sandbox

_BLOCK = re.compile(r"```[ \t]*([\w+#-]*)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```", re.DOTALL)
_PIP = re.compile(r"^\s*(?:[!$]\s*)?(?:python3?\s+-m\s+)?pip3?\s+install\s+(.+)$")
_FILE = re.compile(r"^\s*(?:[!$]\s*)?python3?\s+([\w./-]+\.py)\s*$")
_PYTHON = frozenset({"python", "py", "python3", ""})
_SHELL = frozenset({"sh", "bash", "shell", "console"})
_NAME = re.compile(r"^#\s*(?:filename:|FILENAME:)\s*(\S+)")
_ENDINGS = "def exit(code=None):\n    raise SystemExit(code)\nquit = exit"
"""Programs end themselves by these; where code is a step of an agent's, they would mean nothing."""
_ENDED = re.compile(r"^SystemExit(?:: (.*?))?\. A snippet cannot end the program", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"-?\d+$")
_SECONDS = 60.0


@dataclass
class CodeBlock:
    """Code, and its language."""

    code: str
    language: str


@dataclass
class CodeResult:
    """What came of code."""

    exit_code: int
    output: str
    code_file: str | None = None


def extract_code(text: Any, *, guess: bool = True) -> list[tuple[str, str]]:
    """The blocks of code in a message, as (language, code); `[("unknown", text)]` where there is none.

    Of a block that names no language it is guessed, or else left empty.
    """
    found = [
        ((language or "").lower() or (_guessed(code) if guess else ""), code)
        for language, code in _BLOCK.findall(content_str(text))
    ]
    return found or [("unknown", content_str(text))]


def block_of(code: str, language: str) -> CodeBlock:
    return CodeBlock(code, language)


def _guessed(code: str) -> str:
    return "sh" if _PIP.match(code) else "python"


class MarkdownCodeExtractor:
    """Finds blocks of code."""

    def extract_code_blocks(self, message: Any) -> list[CodeBlock]:
        if not message:
            return []
        return [CodeBlock(code, language) for language, code in extract_code(message) if language != "unknown"]


class CodeExtractor(Protocol):
    """Finds blocks of code in a message."""

    def extract_code_blocks(self, message: Any) -> list[CodeBlock]: ...


@runtime_checkable
class CodeExecutor(Protocol):
    """What an executor of a program's own has."""

    @property
    def code_extractor(self) -> CodeExtractor: ...

    def execute_code_blocks(self, code_blocks: list[CodeBlock]) -> CodeResult: ...

    def restart(self) -> None: ...


class SandboxExecutor:
    """Runs Python in wherry's sandbox, each block by itself; the files of the work folder go in, and come out changed.

    Blocks of shell may install packages (`pip install ...`), which the blocks behind them then have, and run files of
    the work folder (`python made.py`); there is no shell in the sandbox for anything else.

    Args:
        timeout: Seconds for a block.
        work_dir: A folder; None: nothing goes in, nothing comes out.
        sandbox: The tier, as code agents have it.
        packages: What can be imported beyond the standard library.
        options: What else other executors take is taken, and means nothing here.
    """

    def __init__(
        self,
        timeout: float = _SECONDS,
        work_dir: Path | str | None = None,
        *,
        sandbox: str = "auto",
        packages: Sequence[str] = (),
        **options: Any,
    ) -> None:
        if timeout < 1:
            raise ValueError("Timeout must be greater than or equal to 1.")
        self.timeout = timeout
        self.work_dir = None if work_dir is None else Path(work_dir)
        self.packages = [*packages]
        self._sandbox = sandbox

    @property
    def code_extractor(self) -> MarkdownCodeExtractor:
        return MarkdownCodeExtractor()

    def execute_code_blocks(self, code_blocks: Sequence[CodeBlock]) -> CodeResult:
        """Run blocks in their order, up to the first that fails."""
        output = ""
        for block in code_blocks:
            done = self._execute(block.language.lower(), block.code)
            output += f"\n{done.output}" if output and done.output else done.output
            if done.exit_code != 0:
                return CodeResult(done.exit_code, output)
        return CodeResult(0, output)

    def restart(self) -> None:
        """Every block has a session of its own: nothing is to be restarted."""

    def stop(self) -> None:
        """Nothing runs."""

    def __enter__(self) -> SandboxExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def _execute(self, language: str, code: str) -> CodeResult:
        if language in _PYTHON:
            return portal.call(partial(self._run, code))
        if language in _SHELL:
            return self._shell(code)
        return CodeResult(1, f"unknown language {language}: the sandbox runs Python")

    def _shell(self, code: str) -> CodeResult:
        """Lines that install packages, or run a file of the work folder."""
        said: list[str] = []
        for line in code.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if (match := _PIP.match(line)) is not None:
                wanted = [word for word in match[1].split() if not word.startswith("-")]
                self.packages += [name for name in wanted if name not in self.packages]
                said.append(f"available from now on: {', '.join(wanted)}")
            elif (match := _FILE.match(line)) is not None and (path := self._file(match[1])) is not None:
                done = portal.call(partial(self._run, path.read_text("utf-8")))
                said.append(done.output)
                if done.exit_code != 0:
                    return CodeResult(done.exit_code, "\n".join(said))
            else:
                said.append(f"there is no shell in the sandbox ({line.strip()[:80]}): write it in Python")
                return CodeResult(1, "\n".join(said))
        return CodeResult(0, "\n".join(said))

    def _file(self, name: str) -> Path | None:
        path = None if self.work_dir is None else _below(self.work_dir, name)
        return path if path is not None and path.is_file() else None

    async def _run(self, code: str) -> CodeResult:
        from wherry.sandbox import Conditions, SandboxLimits, get_sandbox
        from wherry.sandbox.snippet import new_seed

        folder = self.work_dir
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if (named := _NAME.match(code)) and (path := _below(folder, named[1])) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(code, "utf-8")
        try:
            limits = SandboxLimits(wall_seconds=float(self.timeout))
            make = partial(get_sandbox, self._sandbox, limits=limits, packages=self.packages)
            sandbox = cast("Sandbox", await run_in_thread(make, timeout=None))  # packages are installed
            files = [*folder.iterdir()] if folder is not None else []
            session = await sandbox.open(tools=(), variables={}, files=files)
        except (ConfigurationError, SandboxError) as error:
            return CodeResult(1, error.message)
        try:
            for part in (_ENDINGS, code):
                done = await session.run(part, call_tool=_no_tools, tools=(), conditions=Conditions(new_seed()))
            if folder is not None:
                for file in (await session.collect_files()).files:
                    if (path := _below(folder, file.name)) is not None:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(file.data)
        finally:
            await session.close()
        if done.kind == "timeout":
            return CodeResult(124, f"{done.stdout}{done.stderr}Timeout: {done.error}")
        printed = done.stdout + done.stderr
        if done.ok or (ended := _ENDED.search(done.error)) is None:
            return CodeResult(0 if done.ok else 1, printed + ("" if done.ok else done.error))
        said = "0" if ended[1] in (None, "", "None") else ended[1]  # a program that ends itself has no traceback
        return CodeResult(int(said) % 256, printed) if _STATUS.match(said) else CodeResult(1, f"{printed}{said}\n")


def _below(folder: Path, name: str) -> Path | None:
    """Where a file of that name belongs, if that is in the folder: names come from code that a model wrote."""
    root = folder.resolve()
    path = (root / name).resolve()
    return path if path.is_relative_to(root) and path != root else None


async def _no_tools(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    raise LookupError(f"there is no function {name}")


LocalCommandLineCodeExecutor = SandboxExecutor
DockerCommandLineCodeExecutor = SandboxExecutor


class CodeExecutorFactory:
    """Makes the executor that a `code_execution_config` means."""

    @staticmethod
    def create(code_execution_config: Mapping[str, Any]) -> Any:
        return executor_of(code_execution_config)


def executor_of(config: Mapping[str, Any]) -> Any:
    """The executor that a `code_execution_config` means.

    Raises:
        ValueError: settings that exclude one another.
    """
    given = config.get("executor")
    if given is None:
        timeout, folder = config.get("timeout") or _SECONDS, config.get("work_dir")
        return SandboxExecutor(timeout, folder, packages=config.get("packages", ()))
    for key in ("use_docker", "work_dir", "timeout"):
        if key in config:
            raise ValueError(
                f"'{key}' in code_execution_config is not valid when 'executor' is set. Use the appropriate arg in "
                "the chosen executor instead."
            )
    if isinstance(given, str):
        return SandboxExecutor(**dict(config.get(given) or {}))
    return given
