"""`wherry memo`, as a person types it."""

from __future__ import annotations

import json

import pytest
from tests.cli.command import Command


@pytest.mark.slow
def test_notes_are_read_and_changed(wherry: Command) -> None:
    assert wherry("memo", "set", "city", "Timbuktu").returncode == 0
    assert wherry("memo", "set", "count", "[1, 2]").returncode == 0
    assert wherry("memo", "set", "digits", "17", "--text").returncode == 0
    assert wherry("memo", "get", "city").stdout == "Timbuktu\n"
    assert json.loads(wherry("memo", "get", "count", "--json").stdout) == {
        "scope": "shared",
        "key": "count",
        "value": [1, 2],
    }
    assert wherry("memo", "list").stdout.splitlines() == ['city: "Timbuktu"', "count: [1, 2]", 'digits: "17"']
    assert wherry("memo", "delete", "city").returncode == 0
    for gone in (("get", "city"), ("delete", "city")):
        done = wherry("memo", *gone)
        assert (done.returncode, "has no note 'city'" in done.stderr) == (1, True)


@pytest.mark.slow
def test_scopes_are_apart(wherry: Command) -> None:
    wherry("memo", "set", "k", "1")
    wherry("memo", "set", "k", "2", "--scope", "session:mail")
    wherry("memo", "set", "k", "3", "--scope", "over", "--ttl", "0s")
    assert wherry("memo", "scopes").stdout.splitlines() == ["session:mail", "shared"]
    assert wherry("memo", "get", "k", "--scope", "session:mail").stdout == "2\n"
    assert wherry("memo", "list", "--scope", "over").stdout == ""


@pytest.mark.slow
def test_a_note_that_is_another_than_expected_is_left_alone(wherry: Command) -> None:
    assert wherry("memo", "set", "k", "1", "--expect", "null").returncode == 0
    done = wherry("memo", "set", "k", "2", "--expect", "null")
    assert (done.returncode, "the note 'k' is 1" in done.stderr) == (1, True)
    assert wherry("memo", "set", "k", "2", "--expect", "1").returncode == 0
    assert wherry("memo", "get", "k").stdout == "2\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("set", "k", "1", "--ttl", "soon"), 2), (("list", "--memo", "http://x"), 2), (("set", "k"), 2)],
)
def test_what_is_wrong_is_told(wherry: Command, arguments: tuple[str, ...], code: int) -> None:
    assert wherry("memo", *arguments).returncode == code


@pytest.mark.slow
def test_a_note_of_an_agent_is_there_for_a_person(wherry: Command) -> None:
    (wherry.folder / "noting.py").write_text(
        "from wherry import ScriptedModel, ToolCallingAgent\n"
        "from wherry.messages import ToolCall\n"
        "from wherry.models import ModelReply\n"
        "from wherry.tools.builtin.memo import MemoTool\n"
        "def call(n, name, **arguments):\n"
        "    return ModelReply(tool_calls=[ToolCall(str(n), name, arguments)])\n"
        "def agent():\n"
        "    replies = [call(1, 'memo', action='set', key='k', value={'a': 1}), call(2, 'final_answer', answer='x')]\n"
        "    return ToolCallingAgent([MemoTool(scope='agent')], ScriptedModel(replies), name='noter')\n"
    )
    assert wherry("run", "Note it.", "--agent", "noting.py:agent").returncode == 0
    assert wherry("memo", "get", "k", "--scope", "agent:noter").stdout == '{"a": 1}\n'
