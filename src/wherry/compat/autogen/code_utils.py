"""The names that programs import from `autogen.code_utils`; code runs in wherry's sandbox."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any  # Any: contents of messages

from wherry.compat.autogen.coding import SandboxExecutor, block_of
from wherry.compat.autogen.coding import extract_code as blocks_of
from wherry.compat.autogen.messages import content_str

UNKNOWN = "unknown"
DEFAULT_MODEL = "gpt-4"
FAST_MODEL = "gpt-3.5-turbo"
DEFAULT_TIMEOUT = 600
CODE_BLOCK_PATTERN = r"```[ \t]*(\w+)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```"
_ONE_LINE = r"`([^`\n]+)`"


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
    said = content_str(text)
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
        The exit code, what was printed, and no image.

    Raises:
        AssertionError: neither code nor a file is given.
    """
    if code is None and filename is None:
        raise AssertionError("Either code or filename must be provided.")
    folder = None if work_dir is None and filename is None else Path(work_dir or "extensions")
    if code is None:
        code = (Path(work_dir or "extensions") / str(filename)).read_text("utf-8")
    elif filename is not None and folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / filename).write_text(code, "utf-8")
    executor = SandboxExecutor(timeout or DEFAULT_TIMEOUT, folder)
    done = executor.execute_code_blocks([block_of(code, lang or "python")])
    return done.exit_code, done.output, None


def in_docker_container() -> bool:
    """Whether this process runs in a container of Docker's."""
    return Path("/.dockerenv").exists()


def decide_use_docker(use_docker: Any) -> Any:
    """What `use_docker` is taken for: code runs in wherry's sandbox whatever it is."""
    return use_docker


def check_can_use_docker_or_throw(use_docker: Any) -> None:
    """Never raises: the sandbox needs no Docker."""


__all__ = [
    "CODE_BLOCK_PATTERN",
    "DEFAULT_MODEL",
    "FAST_MODEL",
    "UNKNOWN",
    "check_can_use_docker_or_throw",
    "content_str",
    "decide_use_docker",
    "execute_code",
    "extract_code",
    "in_docker_container",
    "infer_lang",
]
