"""The names that programs import from `autogen.code_utils`; code runs in wherry's sandbox."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast  # Any: contents of messages

from wherry.compat.autogen.coding import CodeBlock, SandboxExecutor
from wherry.compat.autogen.coding.markdown_code_extractor import extract_code as blocks_of
from wherry.compat.autogen.messages import content_str as text_of

UNKNOWN = "unknown"
DEFAULT_MODEL = "gpt-4"
FAST_MODEL = "gpt-3.5-turbo"
DEFAULT_TIMEOUT = 600
CODE_BLOCK_PATTERN = r"```[ \t]*(\w+)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```"
TIMEOUT_MSG = "Timeout"
_TOO_LONG = 124
"""What the executor says of code that ran into its time limit."""
WORKING_DIR = "extensions"
PYTHON_VARIANTS = ("python", "Python", "py")
_ONE_LINE = r"`([^`\n]+)`"


def content_str(content: Any) -> str:
    """The text of a content, which may be a list of parts; pictures as `<image>`.

    Raises:
        TypeError: it is neither text nor parts.
        ValueError: a part is neither text nor a picture.
    """
    said = text_of(content)
    if not isinstance(content, str | None):
        for part in cast("list[Mapping[str, Any]]", content):
            if part.get("type") not in ("text", "image_url"):
                raise ValueError(f"Wrong content format: unknown type {part.get('type')} within the content")
    return said


def infer_lang(code: str) -> str:
    """`"python"` or `"sh"`; `"unknown"` where it is neither."""
    if code.startswith(("python ", "pip", "python3 ")):
        return "sh"
    try:
        compile(code, "code", "exec")
    except (SyntaxError, ValueError):
        return UNKNOWN
    return "python"


def extract_code(
    text: Any, pattern: str = CODE_BLOCK_PATTERN, detect_single_line_code: bool = False
) -> list[tuple[str, str]]:
    """The blocks of code in a text, as (language, code); `[("unknown", text)]` where there is none.

    Args:
        text: A text, or parts.
        pattern: A regular expression with the language and the code as its groups.
        detect_single_line_code: Whether code within a line, between backticks, is code too.
    """
    said = text_of(text)
    if detect_single_line_code:
        found: list[tuple[str, str]] = []
        for match in re.finditer(f"{CODE_BLOCK_PATTERN}|{_ONE_LINE}", said, re.DOTALL):
            if match[2] is not None:
                found.append(((match[1] or "").strip(), match[2].strip()))
            elif match[3] is not None:
                found.append(("", match[3].strip()))
        return found
    if pattern == CODE_BLOCK_PATTERN:
        return blocks_of(said, guess=False)
    return re.findall(pattern, said, re.DOTALL) or [(UNKNOWN, said)]


def execute_code(
    code: str | None = None,
    timeout: float | None = None,
    filename: str | None = None,
    work_dir: str | None = None,
    use_docker: Any = None,
    lang: str | None = "python",
) -> tuple[int, str, None]:
    """Run code, or a file of the work folder.

    Returns:
        The exit code, what was printed, and no image; 1 and "Timeout" where it took too long.

    Raises:
        AssertionError: neither code nor a file is given.
    """
    if code is None and filename is None:
        raise AssertionError("Either code or filename must be provided.")
    folder = None if work_dir is None and filename is None else Path(work_dir or WORKING_DIR)
    if code is None:
        code = (Path(work_dir or WORKING_DIR) / str(filename)).read_text("utf-8")
    elif filename is not None and folder is not None:
        path = folder / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
    executor = SandboxExecutor(timeout or DEFAULT_TIMEOUT, folder)
    done = executor.execute_code_blocks([CodeBlock(code=code, language=lang or "python")])
    if done.exit_code == _TOO_LONG:
        return 1, TIMEOUT_MSG, None
    return done.exit_code, done.output, None


def create_virtual_env(dir_path: str | Path, **env_args: Any) -> SimpleNamespace:
    """Make a virtual environment, for an executor's `virtual_env_context`.

    Args:
        dir_path: Its folder.
        env_args: As `venv.EnvBuilder` takes them; it has pip unless they say otherwise.
    """
    builder = venv.EnvBuilder(with_pip=env_args.pop("with_pip", True), **env_args)
    builder.create(dir_path)
    return builder.ensure_directories(dir_path)


def in_docker_container() -> bool:
    """Whether this process runs in a container of Docker's."""
    return Path("/.dockerenv").exists()


def is_docker_running() -> bool:
    """Whether Docker answers on this machine; code runs in wherry's sandbox either way."""
    engine = shutil.which("docker")
    if engine is None:
        return False
    try:
        return subprocess.run([engine, "version"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def decide_use_docker(use_docker: Any) -> Any:
    """What `use_docker` is, or where nothing is said, `$AUTOGEN_USE_DOCKER`; code runs in wherry's sandbox either way.

    Raises:
        ValueError: the environment variable is neither of "1/true/yes", "0/false/no" and "none".
    """
    if use_docker is not None:
        return use_docker
    said = os.environ.get("AUTOGEN_USE_DOCKER", "True")
    meanings = {**dict.fromkeys(("1", "true", "yes", "t"), True), **dict.fromkeys(("0", "false", "no", "f"), False)}
    if said.lower() not in (*meanings, "none"):
        raise ValueError(f"Invalid value for AUTOGEN_USE_DOCKER: {said}: one of 1/True/yes, 0/False/no, None")
    return meanings.get(said.lower())


def check_can_use_docker_or_throw(use_docker: Any) -> None:
    """Never raises: the sandbox needs no Docker."""


__all__ = [
    "CODE_BLOCK_PATTERN",
    "DEFAULT_MODEL",
    "DEFAULT_TIMEOUT",
    "FAST_MODEL",
    "PYTHON_VARIANTS",
    "TIMEOUT_MSG",
    "UNKNOWN",
    "WORKING_DIR",
    "check_can_use_docker_or_throw",
    "content_str",
    "create_virtual_env",
    "decide_use_docker",
    "execute_code",
    "extract_code",
    "in_docker_container",
    "infer_lang",
    "is_docker_running",
]
