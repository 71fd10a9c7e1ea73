"""The embedded model's mechanics on a real llama.cpp server, with a model whose answers are worth nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import psutil
import pytest

from wherry.errors import ConfigurationError, ModelError, ModelFileError
from wherry.messages import Message, ToolSchema
from wherry.models import Model, ModelRequest, Prepared
from wherry.models.local import LocalModel, server
from wherry.models.local.server import ServerSettings, shared
from wherry.models.local.tool_calls import rendered

pytestmark = pytest.mark.local_model

TOOLS = [
    ToolSchema(
        "paint",
        "Paint a thing.",
        {
            "type": "object",
            "properties": {"thing": {"type": "string", "maxLength": 12}, "colour": {"enum": ["red", "green"]}},
            "required": ["thing", "colour"],
        },
    ),
    ToolSchema(
        "final_answer",
        "Answer.",
        {"type": "object", "properties": {"answer": {"type": "integer", "maximum": 99}}, "required": ["answer"]},
    ),
]


def run(test: Callable[[], Awaitable[None]]) -> None:
    anyio.run(test)


def small(
    file: Path, *, context: int = 1024, slots: int = 2, threads: int = 1, max_output: int | None = None
) -> LocalModel:
    return LocalModel(file, context=context, slots=slots, threads=threads, max_output=max_output)


def ask(text: str, **options: object) -> ModelRequest:
    return ModelRequest([Message("user", text)], max_output=8, **options)  # pyright: ignore[reportArgumentType]


def test_the_profile_is_known_before_anything_runs(smollm2: Path) -> None:
    model = small(smollm2, context=2048)
    assert isinstance(model, Model)
    assert isinstance(model, Prepared)
    assert (model.profile.window, model.profile.price_key) == (2048, "free")
    assert "<|im_start|>" in model.profile.control_tokens
    assert {"code", "manager", "tools"} <= set(model.profile.worked_examples)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context": 100}, "context is 100"),
        ({"context": 100_000}, "trained for 8192"),
        ({"slots": 0}, "slots is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"max_output": 4096, "context": 1024}, "less than the context"),
    ],
)
def test_numbers_that_cannot_be_are_refused(smollm2: Path, options: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        small(smollm2, **options)


def test_complete_and_stream_say_the_same(smollm2: Path) -> None:
    async def test() -> None:
        model = small(smollm2)
        whole = await model.complete(ask("Say hello."))
        assert whole.text
        assert whole.finish_reason in ("stop", "length")
        assert whole.usage is not None
        assert whole.usage.usd == 0
        pieces = [delta async for delta in model.stream(ask("Say hello."))]
        assert pieces[-1].reply is not None
        assert "".join(delta.text for delta in pieces) == pieces[-1].reply.text == whole.text

    run(test)


def test_tool_calls_always_satisfy_the_schema(smollm2: Path) -> None:
    async def test() -> None:
        model = small(smollm2)
        messages = [Message("system", "Use tools."), Message("user", "Paint the fence green, then answer 7.")]
        for _ in range(3):
            reply = await model.complete(ModelRequest(messages, TOOLS, max_output=60))
            (call,) = reply.tool_calls
            assert (reply.text, reply.finish_reason) == ("", "tool_calls")
            if call.name == "paint":
                assert call.arguments["colour"] in ("red", "green")
                assert set(call.arguments) == {"thing", "colour"}
            else:
                assert isinstance(call.arguments["answer"], int)
            messages += [reply.message(), Message("tool", "done", tool_call_id=call.id, name=call.name)]

    run(test)


def test_what_the_model_wrote_is_what_the_cache_holds(smollm2: Path) -> None:
    async def test() -> None:
        model = small(smollm2)
        messages = [Message("system", "Use tools. " * 10), Message("user", "Paint the fence.")]
        first = await model.complete(ModelRequest(messages, TOOLS, max_output=60))
        assert first.usage is not None
        (call,) = first.tool_calls
        messages += [first.message(), Message("tool", "done", tool_call_id=call.id)]
        second = await model.complete(ModelRequest(messages, TOOLS, max_output=60))
        assert second.usage is not None
        # All of the first request and its reply, but for the last token or two.
        assert second.usage.cached_tokens >= first.usage.input_tokens + first.usage.output_tokens - 2

    run(test)


def test_tokens_are_counted_by_the_server_and_without_it_never_too_low(smollm2: Path) -> None:
    async def test() -> None:
        model = small(smollm2, context=650, slots=1)
        count = model.profile.counter
        assert callable(count)
        text = "Five small boats cross the bay."
        assert count(text) == len(text)
        await model.prepare()
        exact = count(text)
        assert 5 <= exact <= 9
        assert count("") == 0
        assert count("\ud800") > 0  # no text at all can make it raise
        long = text * 10_000
        assert 0 <= count(long) - exact * 10_000 <= 0.25 * exact * 10_000
        reply = await model.complete(ask(text))
        assert reply.usage is not None
        assert reply.usage.input_tokens >= exact
        await model.aclose()
        assert count(text) == len(text)

    run(test)


def test_a_reply_follows_the_schema_it_was_given(smollm2: Path) -> None:
    async def test() -> None:
        schema = {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "maximum": 120}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
        request = ModelRequest([Message("user", "Anna is 31.")], response_format=schema, max_output=60)
        reply = await small(smollm2).complete(request)
        assert set(json.loads(reply.text)) == {"name", "age"}

    run(test)


def test_conversations_keep_their_slots(smollm2: Path) -> None:
    """A manager and a specialist with a like beginning alternate; neither pushes the other out."""

    async def test() -> None:
        model = small(smollm2)
        common = "You are one of several agents who work on one thing together. " * 4
        talks = [[Message("system", f"{common}{who}"), Message("user", "Begin.")] for who in ("You lead.", "You help.")]
        for turn in range(3):
            for talk in talks:
                reply = await model.complete(ModelRequest(talk, max_output=6))
                assert reply.usage is not None
                if turn:
                    assert reply.usage.cached_tokens >= 0.7 * reply.usage.input_tokens
                talk += [reply.message(), Message("user", "Go on.")]

    run(test)


@pytest.mark.parametrize(("damage", "context"), [(None, 600), (b"", 601), (b"noise" * 1000, 602)])
def test_the_beginning_of_a_prompt_is_read_once_for_all_processes(
    smollm2: Path, cache_home: Path, damage: bytes | None, context: int
) -> None:
    async def test() -> None:
        model = small(smollm2, context=context, slots=1)
        system = Message("system", "You solve tasks by writing short programs, and you never tire of it. " * 10)
        first = await model.complete(ModelRequest([system, Message("user", "One.")], max_output=4))
        await model.aclose()  # the next request starts another process
        (kept,) = [file for file in cache_home.rglob("*.bin") if file not in before]
        if damage is not None:
            kept.write_bytes(damage)
        second = await model.complete(ModelRequest([system, Message("user", "Two.")], max_output=4))
        await model.aclose()
        assert first.usage is not None
        assert second.usage is not None
        assert second.text
        if damage is None:
            assert second.usage.cached_tokens > 100

    before = set(cache_home.rglob("*.bin"))
    run(test)


def test_a_request_that_does_not_fit_is_an_overflow_with_its_numbers(smollm2: Path) -> None:
    async def test() -> None:
        with pytest.raises(ModelError) as caught:
            await small(smollm2).complete(ask("word " * 3000))
        assert caught.value.kind == "ContextOverflow"
        assert caught.value.diagnosis is not None
        assert caught.value.diagnosis["limit"] == 1024  # of a slot, whatever the number of slots

    run(test)


def test_a_server_that_dies_is_told_and_started_again(smollm2: Path) -> None:
    async def test() -> None:
        model = small(smollm2, threads=2)  # settings of its own, so no other test's server dies
        await model.prepare()
        pid = model.server.pid
        assert pid is not None
        request = ModelRequest([Message("user", "Tell a long story.")], max_output=900)

        async def kill_at_the_first_word() -> None:
            async for _ in model.stream(request):
                if model.server.pid == pid:
                    os.kill(pid, signal.SIGKILL)

        with pytest.raises(ModelError, match=r"died in the middle of a request.*signal 9") as caught:
            await kill_at_the_first_word()
        assert caught.value.kind == "ConnectionLost"
        assert (await model.complete(ask("Say hello."))).text
        assert model.server.pid not in (None, pid)
        await model.aclose()
        assert model.server.pid is None

    run(test)


def test_one_server_serves_models_threads_and_loops(smollm2: Path) -> None:
    first, second = small(smollm2), small(smollm2)
    replies: list[str] = []

    async def talk(model: LocalModel) -> None:
        replies.append((await model.complete(ask("Say hello."))).text)

    threads = [threading.Thread(target=anyio.run, args=(talk, model)) for model in (first, second, first)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    anyio.run(talk, second)
    assert len(replies) == 4
    assert first.server is second.server


def test_a_cancelled_caller_leaves_the_server_to_the_others(smollm2: Path) -> None:
    async def test() -> None:
        model = small(smollm2, slots=1)
        async with anyio.create_task_group() as group:
            group.start_soon(model.prepare)
            with anyio.move_on_after(0):
                await model.prepare()
        assert model.server.pid is not None
        assert (await model.complete(ask("Say hello."))).text
        await model.aclose()

    run(test)


def test_a_file_cut_in_its_weights_is_refused_by_name(smollm2: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with smollm2.open("rb") as whole, cut.open("wb") as out:
        out.write(whole.read(40_000_000))
    with pytest.raises(ModelFileError, match="cut short"):
        LocalModel(cut)

    async def test() -> None:  # and by llama.cpp itself, if it comes so far
        with pytest.raises(ModelFileError, match="corrupted or incomplete"):
            await shared(ServerSettings(cut, context=512, slots=1, threads=1)).ready()

    run(test)


def test_a_model_larger_than_the_free_memory_is_not_started(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "free_memory", lambda: 50_000_000)

    async def test() -> None:
        with pytest.raises(ModelError, match="takes 98 MB of memory and more; 50 MB are free") as caught:
            await small(smollm2, context=700).prepare()
        assert caught.value.kind == "OutOfMemory"

    run(test)


PROGRAM = """
import anyio, sys
from wherry.models.local import LocalModel
async def main():
    model = LocalModel(sys.argv[1], context=512, threads=1)
    await model.prepare()
    print(model.server.pid, flush=True)
anyio.run(main)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, None])
def test_no_server_outlives_its_program(smollm2: Path, end: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(smollm2)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        server = psutil.Process(int(program.stdout.readline()))
        assert server.is_running()
        if end is None:
            program.stdin.write(b"\n")
            program.stdin.flush()
        else:
            program.send_signal(end)
        psutil.wait_procs([server], timeout=10)
        assert not server.is_running()


def test_rendering_is_the_chat_templates_own(qwen_half: Path) -> None:
    """What wherry writes into plain turns is, byte for byte, what the model's template makes of calls and results."""
    from wherry.models.chat_completions import wire_message

    tools = TOOLS[:1]
    messages = [Message("system", "S"), Message("user", "U")]

    async def test() -> None:
        model = LocalModel(qwen_half, context=1024, slots=1)
        await model.prepare()
        reply = await model.complete(ModelRequest([*messages], tools, max_output=60))
        if reply.tool_calls:
            messages.extend([reply.message(), Message("tool", "R", tool_call_id=reply.tool_calls[0].id)])
        ours = await _template(model, {"messages": [wire_message(m) for m in rendered(messages, ())]})
        theirs = await _template(model, {"messages": [wire_message(m) for m in messages]})
        assert ours == theirs

    run(test)


async def _template(model: LocalModel, body: dict[str, object]) -> str:
    from openai import AsyncOpenAI

    endpoint = await model.server.ready()
    async with AsyncOpenAI(base_url=endpoint.url, api_key=endpoint.key, max_retries=0) as client:
        answer = await client.post("/apply-template", cast_to=object, body=body)
    assert isinstance(answer, dict)
    return str(answer["prompt"])  # pyright: ignore[reportUnknownArgumentType]


def test_the_half_billion_model_calls_the_right_tool(qwen_half: Path) -> None:
    async def test() -> None:
        model = LocalModel(qwen_half, context=1024, slots=1)
        request = ModelRequest([Message("user", "Paint the door red.")], TOOLS, max_output=60)
        (call,) = (await model.complete(request)).tool_calls
        assert (call.name, call.arguments) == ("paint", {"thing": "door", "colour": "red"})

    run(test)


def test_nothing_is_held_open_of_a_server_that_was_closed(smollm2: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))

    async def test() -> None:
        model = LocalModel(smollm2, context=512, slots=1, threads=2)
        await model.complete(ModelRequest((Message("user", "Hi"),), max_output=1))
        await model.aclose()

    anyio.run(test)
    server.close_all()
    after = set(os.listdir("/proc/self/fd"))
    left = [os.readlink(f"/proc/self/fd/{name}") for name in after - before if os.path.exists(f"/proc/self/fd/{name}")]
    assert not [name for name in left if "(deleted)" in name], left
