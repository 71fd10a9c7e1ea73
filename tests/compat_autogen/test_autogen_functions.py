"""What models are told of functions, step by step, and pydantic models as arguments."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from wherry import ScriptedModel
from wherry.compat.autogen import AssistantAgent, UserProxyAgent, register_function
from wherry.compat.autogen.function_utils import (
    Function,
    ToolFunction,
    get_default_values,
    get_function_schema,
    get_load_param_if_needed_function,
    get_missing_annotations,
    get_param_annotations,
    get_parameter_json_schema,
    get_parameters,
    get_required_params,
    get_typed_annotation,
    get_typed_return_annotation,
    get_typed_signature,
    load_basemodels_if_needed,
    serialize_to_str,
)
from wherry.messages import ToolCall
from wherry.models import ModelReply


class Order(BaseModel):
    item: Annotated[str, Field(description="what is bought")]
    number: int = 1


def book(
    room: Annotated[int, "the room's number"],
    order: Annotated[Order, "breakfast"],
    view: Literal["sea", "yard"] = "sea",
) -> str:
    return f"{room} {view}: {order.number} {order.item}"


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


def test_the_steps_give_what_the_whole_gives() -> None:
    signature = get_typed_signature(book)
    required, defaults = get_required_params(signature), get_default_values(signature)
    annotations = get_param_annotations(signature)
    assert (required, defaults) == (["room", "order"], {"view": "sea"})
    assert annotations["room"] == Annotated[int, "the room's number"]  # a text in this module: made a type
    assert get_typed_return_annotation(book) is str
    parameters = get_parameters(required, annotations, defaults)
    whole = ToolFunction(function=Function(description="Books", name="book", parameters=parameters))
    assert whole.model_dump() == get_function_schema(book, description="Books")
    properties = whole.function.parameters.properties
    assert properties["order"]["description"] == "breakfast"
    assert properties["order"]["properties"]["item"]["description"] == "what is bought"
    assert properties["view"] == {"default": "sea", "description": "view", "enum": ["sea", "yard"], "type": "string"}


def test_a_parameter_by_itself() -> None:
    assert get_parameter_json_schema("n", int, {}) == {"type": "integer", "description": "n"}
    told = get_parameter_json_schema("n", Annotated[int, "how many"], {"n": 2})
    assert told == {"type": "integer", "description": "how many", "default": 2}
    with pytest.raises(ValueError, match="Invalid description 7 for parameter n"):
        get_parameter_json_schema("n", Annotated[int, 7], {})


def test_texts_as_annotations() -> None:
    assert get_typed_annotation("list[int]", {}) == list[int]
    assert get_typed_annotation(str, {}) is str
    assert get_typed_annotation("Later", {}).__forward_arg__ == "Later"


def test_what_is_not_annotated(caplog: pytest.LogCaptureFixture) -> None:
    def plain(a: int, b, c=1, d="x"):  # pyright: ignore
        return None

    signature = get_typed_signature(plain)  # pyright: ignore
    assert get_missing_annotations(signature, get_required_params(signature)) == ({"b"}, {"c", "d"})
    assert get_typed_return_annotation(plain) is None  # pyright: ignore
    with caplog.at_level(logging.WARNING), pytest.raises(TypeError, match="missing for the following parameters: 'b'"):
        get_function_schema(plain, description="")  # pyright: ignore
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("The return type of the function 'plain' is not annotated.")
    assert (
        said[1] == "The following parameters of the function 'plain' with default values are not annotated: 'c', 'd'."
    )


def test_nothing_is_said_where_all_is_annotated(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        get_function_schema(book, description="Books")
    assert caplog.records == []


def test_dicts_become_models() -> None:
    assert get_load_param_if_needed_function(int) is None
    assert get_load_param_if_needed_function(list[Order]) is None
    load = get_load_param_if_needed_function(Annotated[Order, "breakfast"])
    assert load is not None
    assert load({"item": "egg"}, Order) == Order(item="egg")
    assert load_basemodels_if_needed(book)(room=3, order={"item": "egg"}) == "3 sea: 1 egg"

    async def slow(order: Order) -> Order:
        return order

    loaded = load_basemodels_if_needed(slow)
    assert inspect.iscoroutinefunction(loaded)
    assert asyncio.run(loaded(order={"item": "tea", "number": 2})) == Order(item="tea", number=2)


class Offer(BaseModel):
    price: float


def test_models_in_and_out_of_a_chat() -> None:
    def price(order: Annotated[Order, "what"]) -> Offer:
        return Offer(price=2.5 * order.number)

    call = ModelReply(tool_calls=[ToolCall("1", "price", {"order": {"item": "tea", "number": 2}})])
    assistant = AssistantAgent("a", llm_config={"config_list": [{"model": ScriptedModel([call, "Five."])}]})
    user = UserProxyAgent("u", human_input_mode="NEVER", code_execution_config=False)
    register_function(price, caller=assistant, executor=user, description="The price")
    done = user.initiate_chat(assistant, message="How much?", max_turns=2, silent=True)
    assert done.chat_history[2]["content"] == '{"price":5.0}'
    assert done.summary == "Five."


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_values_go_back_as_they_are(value: Any) -> None:
    import json

    said = serialize_to_str(value)
    assert said == value if isinstance(value, str) else json.loads(said) == value
