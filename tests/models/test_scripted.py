"""Models from a script or a function."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import ModelError
from wherry.messages import Message, Usage
from wherry.models import FunctionModel, Model, ModelReply, ModelRequest, ScriptedModel


def ask(model: Model, text: str = "x") -> ModelReply:
    return anyio.run(model.complete, ModelRequest([Message("user", text)]))


def test_replies_in_order_and_every_request_kept() -> None:
    reply = ModelReply("two", usage=Usage(requests=1, input_tokens=5))

    async def four(request: ModelRequest) -> str:
        return request.messages[0].content.upper()

    model = ScriptedModel(["one", reply, ValueError("three"), four, lambda request: reply])
    assert isinstance(model, Model)
    assert ask(model, "a") == ModelReply("one", finish_reason="stop")
    assert ask(model, "b") is reply
    with pytest.raises(ValueError, match="three"):
        ask(model, "c")
    assert ask(model, "d").text == "D"
    assert ask(model, "e") is reply
    assert [request.messages[0].content for request in model.requests] == list("abcde")


def test_a_script_that_is_used_up() -> None:
    model = ScriptedModel(["one"], name="tester")
    ask(model)
    with pytest.raises(ModelError, match=r"tester.*used up.*request 2.*1 replies"):
        ask(model)
    assert len(model.requests) == 2


def test_a_script_may_be_endless() -> None:
    def forever() -> object:
        while True:
            yield "again"

    model = ScriptedModel(forever())  # type: ignore[arg-type]
    assert [ask(model).text for _ in range(3)] == ["again"] * 3


def test_the_profile() -> None:
    profile = ScriptedModel([], name="n", window=512, native_tools=False, max_output=7).profile
    assert (profile.name, profile.window, profile.native_tools, profile.max_output) == ("n", 512, False, 7)
    assert ScriptedModel([]).profile.native_tools
    assert FunctionModel(ask_back, window=100).profile.name == "ask_back"
    with pytest.raises(TypeError):
        ScriptedModel([], colour="red")


def ask_back(request: ModelRequest) -> str:
    return "you said " + request.messages[-1].content


def test_usage_is_none_unless_given() -> None:
    assert ask(ScriptedModel(["x"])).usage is None
    assert ask(FunctionModel(ask_back)).usage is None


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="list"):
        ScriptedModel("hello")
    with pytest.raises(TypeError, match="42"):
        ask(ScriptedModel([42]))  # type: ignore[list-item]
    with pytest.raises(TypeError, match="None"):
        ask(FunctionModel(lambda request: None))  # type: ignore[arg-type, return-value]


def test_function_models() -> None:
    async def slow(request: ModelRequest) -> ModelReply:
        await asyncio.sleep(0)
        return ModelReply("slow")

    assert ask(FunctionModel(ask_back), "no").text == "you said no"
    assert ask(FunctionModel(slow)).text == "slow"


@given(st.text())
def test_a_stream_is_the_same_text_in_pieces(text: str) -> None:
    async def collect() -> tuple[str, ModelReply | None]:
        pieces = [piece async for piece in ScriptedModel([text]).stream(ModelRequest([Message("user", "x")]))]
        return "".join(piece.text for piece in pieces), pieces[-1].reply

    streamed, reply = anyio.run(collect)
    assert streamed == text
    assert reply == ModelReply(text, finish_reason="stop")


def test_a_failing_stream_fails() -> None:
    async def collect() -> None:
        async for _ in ScriptedModel([ModelError("down")]).stream(ModelRequest([Message("user", "x")])):
            pass

    with pytest.raises(ModelError, match="down"):
        anyio.run(collect)


def test_concurrent_calls_take_replies_in_the_order_of_the_calls() -> None:
    async def many() -> list[str]:
        model = ScriptedModel([str(n) for n in range(50)])
        request = ModelRequest([Message("user", "x")])
        return [reply.text for reply in await asyncio.gather(*[model.complete(request) for _ in range(50)])]

    assert anyio.run(many) == [str(n) for n in range(50)]


def test_an_exception_at_the_end_stays() -> None:
    gone = ModelError("gone", kind="ConnectionLost")
    model = ScriptedModel(["hello", gone])

    async def main() -> None:
        await model.complete(ModelRequest([Message("user", "hi")]))
        for _ in range(3):
            with pytest.raises(ModelError) as caught:
                await model.complete(ModelRequest([Message("user", "hi")]))
            assert caught.value is gone

    anyio.run(main)
