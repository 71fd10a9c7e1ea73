"""The documentation is true: links resolve, Python runs and prints what is said, commands exist.

A Python block may have comments before it that a reader does not see: `<!-- replies: [...] -->`, what the model
answers while the block is tested, and `<!-- prints: ... -->`, a line that it prints.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from wherry import ScriptedModel
from wherry.agents import agent as agent_module
from wherry.cli.app import app
from wherry.models import Model

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@dataclass
class Block:
    page: Path
    line: int
    language: str
    text: str
    replies: list[str] = field(default_factory=list[str])
    prints: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    notes: list[tuple[str, str]] = []
    inside: Block | None = None
    for number, line in enumerate(page.read_text("utf-8").split("\n"), 1):
        if inside is not None:
            if line.startswith("```"):
                found.append(inside)
                inside = None
            else:
                inside.text += line + "\n"
        elif line.startswith("```"):
            inside = Block(page, number, line[3:].strip(), "")
            for kind, value in notes:
                if kind == "replies":
                    inside.replies = json.loads(value)
                else:
                    inside.prints.append(value)
            notes = []
        elif note := re.fullmatch(r"<!-- (replies|prints): (.*) -->", line):
            notes.append((note.group(1), note.group(2)))
    assert inside is None, f"{page}: a block has no end"
    return found


ALL = [block for page in PAGES for block in blocks(page)]


def prose(page: Path) -> str:
    return re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs" and page.name != "index.md"])
def test_every_page_is_in_the_index(page: Path) -> None:
    assert f"]({page.name})" in (ROOT / "docs" / "index.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in ALL if block.language == "python"], ids=str)
def test_python_runs(
    block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHERRY_STORE", "memory://")
    model = ScriptedModel(block.replies)

    def scripted(spec: str | Model) -> Model:
        return model if isinstance(spec, str) else spec

    monkeypatch.setattr(agent_module, "model_from", scripted)
    exec(compile(block.text, str(block), "exec"), {"__name__": "docs"})
    printed = capsys.readouterr().out.splitlines()
    assert printed == block.prints
    assert len(model.requests) == len(block.replies)


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "json"], ids=str)
def test_json_is_json(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


@cache
def helped(*command: str) -> str:
    """What `wherry COMMAND --help` prints; the options in it may be asked for."""
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    return result.output if result.exit_code == 0 else ""


def command_lines() -> list[tuple[str, str]]:
    found = [(str(block), line) for block in ALL if block.language == "sh" for line in block.text.splitlines()]
    found += [(page.name, code) for page in PAGES for code in re.findall(r"`((?:wherry|make) [^`]+)`", prose(page))]
    return [(where, line.partition("  #")[0].strip()) for where, line in found]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "line"), command_lines())
def test_commands_exist(where: str, line: str) -> None:
    words = shlex.split(line.split("|")[-1].split("\\|")[0] if line.startswith("cat ") else line.split("\\|")[0])
    if words[0] == "make":
        targets = re.findall(r"(?m)^([a-z\-]+):", (ROOT / "Makefile").read_text("utf-8"))
        assert words[1] in targets, where
    elif words[0] == "wherry":
        names = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)]
        depth = 2 if names[:1] in (["models"], ["sandbox"], ["audit"], ["memo"]) and len(names) > 1 else 1
        text = helped(*names[:depth]) if names else helped()
        assert text, f"{where}: {line}"
        for option in (word for word in words if word.startswith("-") and word != "-"):
            assert re.search(rf"(?<![\w\-]){option}(?![\w\-])", text + helped()), f"{where}: {option}"


def test_every_command_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    group = typer.main.get_group(app)
    assert [name for name in group.commands if f"wherry {name}" not in page and f"`wherry {name}" not in page] == []


def test_every_package_has_its_paragraph_in_the_map() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    packages = {path.parent.name for path in (ROOT / "src" / "wherry").glob("*/__init__.py")}
    assert {package for package in packages if f"**`{package}/`**" not in page} == set()
