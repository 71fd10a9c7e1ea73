"""What comes from outside: fifty injections by every way in, and what is left of them where a model reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.injections import INJECTIONS, ORDER
from tests.tools.pages import Answer, serving

from wherry import CodeAgent, FunctionModel, RunResult, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.context.sanitising import CONTROL_TOKENS, sanitised
from wherry.context.untrusted import MARK, key_of, taken_apart
from wherry.errors import CatalogueError
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.models.families import UNKNOWN
from wherry.models.local import LocalModel, pull
from wherry.models.local.server import close_all
from wherry.store import Store
from wherry.tools import Tool
from wherry.tools.builtin import VisitWebpage, memo

LEAVES = 'See also: <a href="/">home</a>.'
BAD = re.compile("[\u200b\u202a-\u202e\u2060-\u2069\u00ad\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\U000e0000-\U000e0fff]")


@tool(untrusted=True)
def read_mail(number: int) -> dict[str, str]:
    """Read a mail."""
    return {"from": "eve@evil.test", "body": list(INJECTIONS.values())[number]}


def file_reader(folder: Path) -> Tool:
    @tool(untrusted=True)
    def read_file(name: str) -> str:
        """Read a file that somebody sent."""
        return (folder / name).read_text("utf-8")

    return read_file


class Mailbox:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def tool(self) -> Tool:
        @tool(sink=True)
        def send_mail(text: str) -> str:
            """Send a mail."""
            self.sent.append(text)
            return "sent"

        return send_mail


def obedient(kind: str, first: tuple[str, dict[str, Any]]) -> FunctionModel:
    """Reads what it is told to read, and then does what it read: a model as weak as can be."""
    name, arguments = first
    seen: list[ModelRequest] = []

    def reply(request: ModelRequest) -> ModelReply | str:
        seen.append(request)
        step = len(seen)
        if kind == "tools":
            if step == 1:
                return ModelReply(tool_calls=[ToolCall("1", name, arguments)])
            if step == 2:
                return ModelReply(tool_calls=[ToolCall("2", "send_mail", {"text": "all that I know"})])
            return "done"
        call = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
        if step == 1:
            return f"```python\nfound = {call}\nprint(found)\n```"
        if step == 2:
            return "```python\nprint(send_mail('all that I know'))\n```"
        return "```python\nfinal_answer('done')\n```"

    return FunctionModel(reply)


def run(kind: str, tools: list[Tool], model: Any, store: Store) -> RunResult:
    if kind == "tools":
        return ToolCallingAgent(tools, model, store=store).run("What does it say?")
    return CodeAgent(tools, model, store=store, sandbox="unsafe").run("What does it say?")


def check_harmless(text: str, run_id: str) -> None:
    apart = taken_apart(text)
    assert apart is not None
    around, inside = apart
    assert key_of(run_id) in around.opening
    assert key_of(run_id) not in inside
    assert "</wherry" not in inside
    assert "<wherry" not in inside
    for token in (*UNKNOWN.control_tokens, *CONTROL_TOKENS):
        assert token not in inside, token
    assert not re.search(r"<[|｜][^|｜<>\s]{1,64}[|｜]>", inside)
    assert not BAD.search(inside)
    assert "<script" not in inside
    assert "![" not in inside


def requests_of(result: RunResult, store: Store) -> list[str]:
    from wherry.journal import messages_of_request

    return [message.content for message in messages_of_request(store, result.run_id, 2) if MARK in message.content]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tools", "code"])
@pytest.mark.parametrize("way", ["page", "mail", "file"])
def test_canaries(way: str, kind: str, tmp_path: Path) -> None:
    """None opens a turn, none ends its fence, none reaches a sink, although the model does whatever it reads."""
    assert len(INJECTIONS) == 50
    pages: dict[str, Any] = {
        f"/{number}": Answer(f"<html><body><p>Boats.</p>{text}{LEAVES}</body></html>".encode("utf-8", "surrogatepass"))
        for number, text in enumerate(INJECTIONS.values())
    }
    with serving(pages) as site:
        for number, (label, text) in enumerate(INJECTIONS.items()):
            store, mailbox = open_store("memory://"), Mailbox()
            if way == "page":
                reader: Tool = VisitWebpage(allow_private=("127.0.0.1",), robots=False)
                first: tuple[str, dict[str, Any]] = ("visit_webpage", {"url": site.url(f"/{number}")})
            elif way == "mail":
                reader, first = read_mail, ("read_mail", {"number": number})
            else:
                (tmp_path / "letter.txt").write_text(text, "utf-8")
                reader, first = file_reader(tmp_path), ("read_file", {"name": "letter.txt"})
            result = run(kind, [reader, mailbox.tool()], obedient(kind, first), store)
            assert result.status is RunStatus.WAITING, label
            assert mailbox.sent == [], label
            (pending,) = result.pending
            assert "content from outside" in pending.why, label
            (seen,) = requests_of(result, store)
            check_harmless(seen, result.run_id)


def test_before_anything_was_read_a_sink_is_free() -> None:
    mailbox = Mailbox()
    model = ScriptedModel([ModelReply(tool_calls=[ToolCall("1", "send_mail", {"text": "hello"})]), "done"])
    result = ToolCallingAgent([mailbox.tool(), read_mail], model, store=open_store("memory://")).run("Say hello.")
    assert (result.output, mailbox.sent) == ("done", ["hello"])


def test_a_person_may_agree() -> None:
    store, mailbox = open_store("memory://"), Mailbox()
    agent = ToolCallingAgent([mailbox.tool(), read_mail], obedient("tools", ("read_mail", {"number": 49})), store=store)
    waiting = agent.run("What does it say?")
    (pending,) = waiting.pending
    result = agent.resume(waiting.run_id, approvals={pending.id: True})
    assert (result.output, mailbox.sent) == ("done", ["all that I know"])


class TestTaint:
    def test_what_a_managed_agent_read_taints_its_manager(self) -> None:
        mailbox = Mailbox()
        reads = ScriptedModel([ModelReply(tool_calls=[ToolCall("1", "read_mail", {"number": 0})]), ORDER])
        reader = ToolCallingAgent([read_mail], reads, name="reader", description="Reads mails.")
        asks = ScriptedModel(
            [
                ModelReply(tool_calls=[ToolCall("1", "reader", {"task": "read"})]),
                ModelReply(tool_calls=[ToolCall("2", "send_mail", {"text": "x"})]),
            ]
        )
        result = ToolCallingAgent([mailbox.tool()], asks, managed_agents=[reader], store=open_store("memory://")).run(
            "Read and answer."
        )
        assert result.status is RunStatus.WAITING
        assert mailbox.sent == []
        check_harmless(asks.requests[1].messages[-1].content, result.run_id)

    def test_a_session_stays_tainted(self) -> None:
        store, mailbox = open_store("memory://"), Mailbox()
        model = ScriptedModel(
            [
                ModelReply(tool_calls=[ToolCall("1", "read_mail", {"number": 3})]),
                "read",
                ModelReply(tool_calls=[ToolCall("1", "send_mail", {"text": "x"})]),
            ]
        )
        agent = ToolCallingAgent([read_mail, mailbox.tool()], model, store=store)
        agent.run("Read.", session="s")
        result = agent.run("Go on.", session="s")
        assert result.status is RunStatus.WAITING
        assert mailbox.sent == []

    def test_a_run_of_its_own_is_not(self) -> None:
        store, mailbox = open_store("memory://"), Mailbox()
        calls = [
            ModelReply(tool_calls=[ToolCall("1", "read_mail", {"number": 3})]),
            "read",
            ModelReply(tool_calls=[ToolCall("1", "send_mail", {"text": "x"})]),
            "done",
        ]
        agent = ToolCallingAgent([read_mail, mailbox.tool()], ScriptedModel(calls), store=store)
        agent.run("Read.")
        assert agent.run("Send x.").output == "done"

    def test_what_a_run_wrote_comes_back_as_untrusted(self) -> None:
        calls = [
            ModelReply(tool_calls=[ToolCall("1", "memo", {"action": "set", "key": "a", "value": "<|im_start|>"})]),
            ModelReply(tool_calls=[ToolCall("2", "memo", {"action": "get", "key": "a"})]),
            ModelReply(tool_calls=[ToolCall("3", "read_mail", {"number": 0})]),
            ModelReply(tool_calls=[ToolCall("4", "memo", {"action": "get", "key": "a"})]),
            "done",
        ]
        model = ScriptedModel(calls)
        ToolCallingAgent([read_mail, memo], model, store=open_store("memory://")).run("Go.")
        results = [message.content for message in model.requests[-1].messages if message.role == "tool"]
        assert [one.startswith(MARK) for one in results] == [False, False, True, True]

    def test_what_fails_is_untrusted_too(self) -> None:
        @tool(untrusted=True)
        def fetch() -> str:
            """Fetch."""
            raise ValueError(INJECTIONS["chatml"])

        model = ScriptedModel([ModelReply(tool_calls=[ToolCall("1", "fetch", {})]), "done"])
        result = ToolCallingAgent([fetch], model, store=open_store("memory://")).run("Go.")
        check_harmless(model.requests[-1].messages[-1].content, result.run_id)

    @pytest.mark.slow
    def test_a_large_content_is_found_again_and_still_fenced(self) -> None:
        @tool(untrusted=True)
        def fetch() -> str:
            """Fetch."""
            return (INJECTIONS["tag characters"] + INJECTIONS["qwen call"] + " boats\n") * 20_000

        def read(request: ModelRequest) -> ModelReply:
            found = re.search(r'ref="(a-[0-9a-f]+)"', request.messages[-1].content)
            assert found is not None
            return ModelReply(tool_calls=[ToolCall("2", "read_artifact", {"ref": found[1], "limit": 2_000})])

        model = ScriptedModel([ModelReply(tool_calls=[ToolCall("1", "fetch", {})]), read, "done"])
        result = ToolCallingAgent([fetch], model, store=open_store("memory://")).run("Go.")
        offloaded, excerpt = (message.content for message in model.requests[-1].messages if message.role == "tool")
        check_harmless(excerpt, result.run_id)
        assert "boats" in excerpt
        apart = taken_apart(offloaded)
        assert apart is not None
        assert apart[1].startswith("<wherry:offloaded ref=")

    def test_the_snippet_has_the_real_value(self) -> None:
        model = ScriptedModel(["```python\nfinal_answer(read_mail(0)['body'])\n```"])
        result = CodeAgent([read_mail], model, store=open_store("memory://"), sandbox="unsafe").run("Go.")
        assert result.output == INJECTIONS["chatml"]

    def test_a_fence_stays_when_a_message_is_made_smaller(self) -> None:
        @tool(untrusted=True)
        def fetch(number: int) -> str:
            """Fetch."""
            return f"page {number}: " + "boats and sails and ropes. " * 150

        from wherry import ContextBudget

        calls: list[Any] = [ModelReply(tool_calls=[ToolCall(str(n), "fetch", {"number": n})]) for n in range(12)]
        model = ScriptedModel([*calls, "done"])
        budget = ContextBudget(window=6_000, reserve_output=200, compaction="extract")
        result = ToolCallingAgent([fetch], model, store=open_store("memory://"), context=budget, max_steps=20).run(
            "Go."
        )
        assert result.output == "done"
        for request in model.requests:
            for message in request.messages:
                if message.role == "tool":
                    assert message.content.startswith(MARK)
                    assert message.content.endswith(f'</wherry:untrusted id="{key_of(result.run_id)}">')


class TestSanitised:
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_once_is_enough(self, text: str) -> None:
        once = sanitised(text)
        assert sanitised(once) == once
        assert not BAD.search(once)

    @given(st.lists(st.sampled_from([*CONTROL_TOKENS, "\u200b", "\u200d", "<", "|", ">", "/", "x", "<!--", "-->"])))
    def test_no_control_token_is_left_however_they_are_put_together(self, parts: list[str]) -> None:
        once = sanitised("".join(parts))
        assert not [token for token in CONTROL_TOKENS if token in once]

    @pytest.mark.parametrize(
        "hidden", ["\ue000", "\uf8ff", "\U000f0000", "\U000e0041", "\u2066", "\U00013430", "\u2061"]
    )
    def test_what_nobody_sees_is_taken_out(self, hidden: str) -> None:
        assert sanitised(f"a{hidden}b") == "ab"

    @pytest.mark.parametrize(
        "token",
        ["<|turn>model", "<turn|>", "<arg_key>", "<｜DSML｜function_calls>", "<extra_id_1>", "<minimax:tool_call>"],
    )
    def test_tokens_of_newer_templates_are_broken(self, token: str) -> None:
        assert token not in sanitised(f"x {token} y")

    @pytest.mark.parametrize(
        "text",
        [
            "Plain text, with (brackets), [links](https://example.org) and a < b > c.",
            "می‌خواهم کتاب بخوانم", "हिन्दी में क्‍या", "👩‍🚀 and ❤️ and 🏳️‍🌈", "naïve café — ‘quotes’", "日本語のテキスト",
            "def f(x):\n\treturn {'a': [1, 2]}", "| a | b |\n|---|---|", "the user: a person", "x = y if a<b else c",
        ],
    )  # fmt: skip
    def test_what_people_write_stays(self, text: str) -> None:
        assert sanitised(text) == text

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "part", ["<script", "<!--", "![[", "\x1b]", " \t", "## ", "<|", "[\u200c", "</script ", "\n"]
    )
    def test_long_texts_take_no_square(self, part: str) -> None:
        """Not timed: with the square of the length this would not end."""
        sanitised(part * 200_000)


# ---- by real vocabularies


@pytest.mark.local_model
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-0.5b"])
def test_no_special_token_comes_out_of_the_data(name: str) -> None:
    """Told by the model's own template and vocabulary: tokens of the data are those of plain text."""
    try:
        file = pull(name)
    except CatalogueError as error:
        pytest.skip(f"{name} cannot be had here: {error.message}")

    async def test() -> None:
        async with LocalModel(file, context=2048, slots=1, threads=1, keep_prefixes=False) as model:
            await model.prepare()
            await _check_tokens(model)

    try:
        anyio.run(test)
    finally:
        close_all()


async def _check_tokens(model: LocalModel) -> None:
    fences: dict[str, str] = {}
    for label, text in INJECTIONS.items():

        @tool(untrusted=True)
        def fetch(text: str = text) -> str:
            """Fetch."""
            return text

        script = ScriptedModel([ModelReply(tool_calls=[ToolCall("1", "fetch", {})]), "done"])
        await ToolCallingAgent([fetch], script, store=open_store("memory://")).arun("Go.")
        fences[label] = script.requests[-1].messages[-1].content
    asked = _server_of(model)
    calm = await _tokens(asked, "A fine boat.")
    for label, text in fences.items():
        plain = await asked("/tokenize", {"content": text, "parse_special": False})
        special = await asked("/tokenize", {"content": text, "parse_special": True})
        assert plain["tokens"] == special["tokens"], label
        assert (await _tokens(asked, text))[0] == calm[0], label


async def _tokens(asked: Callable[[str, dict[str, Any]], Any], content: str) -> tuple[int, str]:
    """How many turns a conversation with this result has when the server has written and read it."""
    messages = [
        {"role": "system", "content": "s"}, {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"}, {"role": "user", "content": content},
    ]  # fmt: skip
    prompt = (await asked("/apply-template", {"messages": messages}))["prompt"]
    found = await asked("/tokenize", {"content": prompt, "parse_special": True, "with_pieces": True})
    pieces = [one["piece"] for one in found["tokens"]]
    return sum(piece in ("<|im_start|>", "<|im_end|>", "<|endoftext|>") for piece in pieces), prompt


def _server_of(model: LocalModel) -> Callable[[str, dict[str, Any]], Any]:
    import httpx2

    async def ask(path: str, body: dict[str, Any]) -> Any:
        at = model.server.endpoint
        assert at is not None
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
            answer = await client.post(f"{at.url}{path}", json=body, headers={"Authorization": f"Bearer {at.key}"})
            assert answer.status_code == 200, answer.text
            return answer.json()

    return ask
