"""What a block of shell asks for, as far as that means something without a shell: packages, and files to run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TypeAlias

_PROMPT = re.compile(r"^\s*[!$%]\s*")
_VALUED = frozenset(
    [
        "-i",
        "--index-url",
        "--extra-index-url",
        "-t",
        "--target",
        "-c",
        "--constraint",
        "-f",
        "--find-links",
        "--trusted-host",
        "--timeout",
        "--retries",
        "--proxy",
        "--cache-dir",
        "--python-version",
        "--platform",
        "--root",
        "--prefix",
        "--src",
    ]
)
"""Options of pip's that take the next word."""


@dataclass(frozen=True, slots=True)
class Install:
    """`pip install a b -r file`."""

    packages: tuple[str, ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFile:
    """`python file.py a b`."""

    file: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunText:
    """`python -c text a b`."""

    text: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything else."""

    line: str


Command: TypeAlias = "Install | RunFile | RunText | Unknown"


def commands(code: str) -> list[Command]:
    """The commands of a block, in their order; those of a line are apart by `&&` or `;`."""
    found: list[Command] = []
    for line in code.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        text = _PROMPT.sub("", line.strip())
        try:
            parts = _split(text)
        except ValueError:  # a quotation that does not end
            parts = None
        if parts is None:
            found.append(Unknown(text))
        else:
            found += [_command(words, text) for words in parts]
    return found


def _split(line: str) -> list[list[str]] | None:
    """The words of each command of a line; None where commands are tied to one another in another way."""
    words = shlex.shlex(line, posix=True, punctuation_chars="&;|")
    words.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", ";"):
            parts.append([])
        elif word and not word.strip("&;|"):
            return None
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def _command(words: list[str], line: str) -> Command:
    if words[0] in ("python", "python3"):
        rest = words[1:]
        while rest and rest[0] in ("-u", "-B", "-I"):
            rest = rest[1:]
        if rest[:3] in (["-m", "pip", "install"], ["-m", "pip3", "install"]):
            return _install(rest[3:])
        if len(rest) > 1 and rest[0] == "-c":
            return RunText(rest[1], tuple(rest[2:]))
        if rest and rest[0].endswith(".py"):
            return RunFile(rest[0], tuple(rest[1:]))
    elif words[0] in ("pip", "pip3") and words[1:2] == ["install"]:
        return _install(words[2:])
    return Unknown(line)


def _install(words: list[str]) -> Install:
    packages: list[str] = []
    files: list[str] = []
    left = iter(words)
    for word in left:
        if word in ("-r", "--requirement"):
            files.append(next(left, ""))
        elif word in _VALUED:
            next(left, None)
        elif not word.startswith("-"):
            packages.append(word)
    return Install(tuple(packages), tuple(files))


def required(text: str) -> list[str]:
    """The packages of a requirements file."""
    lines = (line.split(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]
