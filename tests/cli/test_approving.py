"""`wherry approvals`, `approve`, `deny`, `changes`, and how a run that waits ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cli.command import Command

PAYING = '''
from wherry import FunctionModel, Policy, ToolCallingAgent, tool
from wherry.messages import ToolCall
from wherry.models import ModelReply


@tool(needs_approval=True)
def pay(amount: float, to: str) -> str:
    """Pay somebody."""
    return f"paid {amount:g} to {to}"


def _answer(request):
    said = [message.content for message in request.messages if message.role == "tool"]
    if said:
        return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": said})])
    calls = [ToolCall("a", "pay", {"amount": 5, "to": "ann"}), ToolCall("b", "pay", {"amount": 7, "to": "\\x1b[2Jbob"})]
    return ModelReply(tool_calls=calls)


def payer():
    return ToolCallingAgent([pay], FunctionModel(_answer), name="payer", description="Pays.")


def _delegate(request):
    said = [message.content for message in request.messages if message.role == "tool"]
    if said:
        return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": said})])
    return ModelReply(tool_calls=[ToolCall(one, "payer", {"task": f"pay {one}"}) for one in ("x", "y")])


def office():
    return ToolCallingAgent([], FunctionModel(_delegate), name="boss", managed_agents=[payer()])


def strict():
    return ToolCallingAgent([pay], FunctionModel(_answer), name="payer", policy=Policy(deny=["pay"]))
'''


@pytest.fixture
def paying(wherry: Command) -> Command:
    (wherry.folder / "paying.py").write_text(PAYING, encoding="utf-8")
    return wherry


def listed(wherry: Command, *more: str) -> dict[str, Any]:
    done = wherry("approvals", "--json", *more)
    assert done.returncode == 0, done.stderr
    return {one["arguments"]["to"].removeprefix("\x1b[2J"): one for one in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
def test_a_run_that_waits_says_what_and_which_command_decides(paying: Command) -> None:
    done = paying("run", "pay", "--agent", "paying.py:payer")
    assert done.returncode == 3
    waits = listed(paying)
    ann, bob = waits["ann"], waits["bob"]
    assert f"wherry approve {ann['id']}" in done.stdout
    assert f'{ann["id"]}  payer wants pay(amount=5, to="ann")' in done.stderr
    assert f"wherry deny {bob['id']} --reason" in done.stderr
    assert f"wherry resume {ann['root_run_id']}" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    shown = paying("approvals")
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    assert "`pay` needs approval" in shown.stdout

    first = paying("approve", ann["id"][:9], "--arguments", '{"amount": 50, "to": "ann"}', "--reason", "fine")
    assert first.returncode == 0, first.stderr
    assert "1 more waits" in first.stdout
    again = paying("approve", ann["id"])
    assert again.returncode == 1
    assert "approved already" in again.stderr
    second = paying("deny", bob["id"], "--reason", "not him", "--json")
    assert json.loads(second.stdout)["decision"]["approved"] is False
    assert paying("approvals").stdout == "nothing waits for approval\n"
    assert listed(paying, "--all", ann["root_run_id"]).keys() == {"ann", "bob"}

    rest = paying("resume", ann["root_run_id"], "--quiet")
    assert rest.returncode == 0, rest.stderr
    assert json.loads(rest.stdout) == ["paid 50 to ann", "Error: denied by a person: not him"]


@pytest.mark.slow
def test_what_waits_below_a_run_in_the_middle_of_a_tree_is_listed_by_its_id_too(paying: Command) -> None:
    assert paying("run", "pay", "--agent", "paying.py:office").returncode == 3
    every = [json.loads(line) for line in paying("approvals", "--json").stdout.splitlines()]
    root, children = {one["root_run_id"] for one in every}, {one["run_id"] for one in every}
    assert (len(every), len(root), len(children)) == (4, 1, 2)
    for child in children:
        lines = paying("approvals", child[:17], "--json").stdout.splitlines()
        assert [json.loads(line) for line in lines] == [one for one in every if one["run_id"] == child]
    paying("deny", next(one["id"] for one in every if one["run_id"] == max(children)))
    assert len(paying("approvals", max(children), "--json").stdout.splitlines()) == 1
    assert len(paying("approvals", max(children), "--json", "--all").stdout.splitlines()) == 2
    assert len(paying("approvals", root.pop(), "--json", "--all").stdout.splitlines()) == 4


@pytest.mark.slow
def test_what_was_decided_is_shown_whole_and_harmless(paying: Command) -> None:
    paying("run", "pay", "--agent", "paying.py:payer", "--session", "mail")
    waits = listed(paying)
    paying("approve", waits["ann"]["id"], "--arguments", '{"amount": 50, "to": "zoë"}', "--reason", "ñ\x1b[31m\n")
    assert paying("deny", waits["bob"]["id"], "--reason", "y" * 100_000).returncode == 0
    lines = paying("approvals", "--all").stdout.splitlines()
    [approved] = [line for line in lines if line.startswith("  approved")]
    assert 'with {"amount": 50, "to": "zoë"}: ñ' in approved
    assert "\x1b" not in approved
    [denied] = [line for line in lines if line.startswith("  denied")]
    assert len(denied) < 2_100
    paying("resume", waits["ann"]["root_run_id"], "--quiet")
    assert paying("prune", "--session", "mail").stdout.startswith("1 runs pruned")
    gone = paying("approve", waits["ann"]["id"])
    assert (gone.returncode, "there is no approval" in gone.stderr) == (1, True)
    for more in ((), ("--agent", "paying.py:payer")):
        resumed = paying("resume", waits["ann"]["root_run_id"], *more)
        assert (resumed.returncode, "removed by pruning" in resumed.stderr) == (1, True), resumed.stderr
        assert "go on with it" not in resumed.stderr
    assert paying("audit", "verify").returncode == 0


@pytest.mark.slow
def test_json_has_what_waits(paying: Command) -> None:
    done = paying("run", "pay", "--agent", "paying.py:payer", "--json")
    assert done.returncode == 3
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == "waiting"
    assert [one["kind"] for one in result["pending"]] == ["approval", "approval"]
    quiet = paying("resume", result["run_id"], "--quiet")
    assert (quiet.returncode, quiet.stdout) == (3, "")
    assert result["pending"][0]["id"] in quiet.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("approve", "ap-none"), "no approval", 1),
        (("approve", "{ann}", "--arguments", "5"), "is no object", 2),
        (("approve", "{ann}", "--arguments", "{no"), "is no JSON", 2),
        (("approve", "{ann}", "--arguments", '{"amount": NaN, "to": "y"}'), "is no JSON", 2),
        (("approve", "{ann}", "--arguments", '{"amount": 1, "amount": 2, "to": "y"}'), "'amount' is there twice", 2),
        (("approve", "{ann}", "--arguments", '{"amount": "x", "to": "y"}'), "`amount`", 1),
        (("approve", "{ann}", "--result", "5"), "takes no result", 1),
        (("approvals", "none"), "none", 1),
    ],
)
def test_what_cannot_be_decided(paying: Command, arguments: tuple[str, ...], said: str, code: int) -> None:
    paying("run", "pay", "--agent", "paying.py:payer")
    ann = listed(paying)["ann"]["id"]
    done = paying(*(one.replace("{ann}", ann) for one in arguments))
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert listed(paying).keys() == {"ann", "bob"}


@pytest.mark.slow
def test_changes_are_listed_with_their_diff(paying: Command) -> None:
    paying("run", "pay", "--agent", "paying.py:payer")
    assert paying("changes").stdout == "no changes\n"
    source = paying.folder / "paying.py"
    source.write_text(PAYING.replace('"paid {amount:g}', '"gave {amount:g}'), encoding="utf-8")
    done = paying("run", "pay", "--agent", "paying.py:strict")
    assert done.returncode == 0, done.stderr
    assert "tools new code of pay" in done.stdout
    shown = paying("changes", "--since", "1h", "--agent", "payer").stdout
    assert "payer: tools new code of pay, before run" in shown
    assert '  -    return f"paid {amount:g} to {to}"' in shown
    assert '  +    return f"gave {amount:g} to {to}"' in shown
    assert "payer: policy changed, before run" in shown
    rows = [json.loads(line) for line in paying("changes", "--json").stdout.splitlines()]
    assert [row["type"] for row in rows] == ["tools.changed", "policy.changed"]
    assert paying("changes", "--agent", "other").stdout == "no changes\n"
