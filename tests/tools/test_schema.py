"""What a model is told of a tool, and what a malformed tool is told."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field

from wherry.errors import ConfigurationError
from wherry.tools import Tool, check_name, collect, to_tool, tool

if TYPE_CHECKING:
    from decimal import Decimal


@tool
def celsius_to_fahrenheit(celsius: float) -> float:
    """Convert a temperature.

    Args:
        celsius: Temperature in degrees Celsius.

    Returns:
        Degrees Fahrenheit.
    """
    return celsius * 9 / 5 + 32


class PrimeTool(Tool):
    name = "smallest_prime_factor"
    description = "The smallest prime factor of n."
    inputs = {"n": {"type": "integer", "description": "2 or more"}}
    output_type = "integer"

    def forward(self, n: int) -> int:
        return next(i for i in range(2, n + 1) if n % i == 0)


@dataclasses.dataclass
class Point:
    x: int
    title: str = "here"


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


def test_a_function_is_described_by_its_hints_and_docstring() -> None:
    assert celsius_to_fahrenheit.schema.to_json() == {
        "name": "celsius_to_fahrenheit",
        "description": "Convert a temperature.",
        "parameters": {
            "type": "object",
            "properties": {"celsius": {"type": "number", "description": "Temperature in degrees Celsius."}},
            "additionalProperties": False,
            "required": ["celsius"],
        },
        "returns": {"type": "number", "description": "Degrees Fahrenheit."},
    }


def test_a_tool_is_still_a_function() -> None:
    assert celsius_to_fahrenheit(100) == 212
    assert PrimeTool()(15) == 3


def test_a_class_of_smolagents_style_is_described_by_its_inputs() -> None:
    schema = PrimeTool().schema
    assert schema.parameters["properties"] == {"n": {"type": "integer", "description": "2 or more"}}
    assert schema.parameters["required"] == ["n"]
    assert schema.returns == {"type": "integer"}


def test_a_class_without_inputs_is_described_by_its_forward() -> None:
    class Repeat(Tool):
        name = "repeat"
        description = "Repeat a text."

        def forward(self, text: str, times: int = 2) -> str:
            """Repeat.

            Args:
                text: what to repeat
            """
            return text * times

    assert Repeat().schema.parameters["properties"] == {
        "text": {"type": "string", "description": "what to repeat"},
        "times": {"type": "integer", "default": 2},
    }


def test_any_type_that_pydantic_can_describe() -> None:
    @tool
    def many(
        point: Point,
        color: Color,
        size: Annotated[int, Field(gt=0, description="how large")],
        way: Literal["up", "down"] = "up",
        note: str | None = None,
    ) -> dict[str, list[Point]]:
        """Do much.

        Args:
            point: where
        """
        return {note or way: [point]}

    properties = many.schema.parameters["properties"]
    assert properties["point"] == {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "title": {"type": "string", "default": "here"}},
        "required": ["x"],
        "additionalProperties": False,
        "description": "where",
    }
    assert properties["color"] == {"enum": ["red", "blue"], "type": "string"}
    assert properties["size"] == {"exclusiveMinimum": 0, "type": "integer", "description": "how large"}
    assert properties["note"] == {"type": "string"}, "leaving it out says null in fewer tokens"
    assert many.schema.parameters["required"] == ["point", "color", "size"]
    assert "$defs" not in many.schema.parameters
    json.dumps(many.schema.to_json())


def test_a_type_that_holds_itself_stays_a_reference() -> None:
    @tool
    def walk(root: Node) -> int:
        """Walk a tree."""
        return root.value

    parameters = walk.schema.parameters
    assert parameters["properties"]["root"] == {"$ref": "#/$defs/Node"}
    assert parameters["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


def test_types_defined_in_a_function_are_found() -> None:
    @dataclasses.dataclass
    class Local:
        a: int

    def use(local: Local) -> int:
        """Use it."""
        return local.a

    assert to_tool(use).schema.parameters["properties"]["local"]["properties"] == {"a": {"type": "integer"}}


def test_a_default_without_a_json_form_is_still_a_default() -> None:
    marker = object()

    @tool
    def look(what: Any = marker) -> bool:
        """Look."""
        return what is marker

    assert look.schema.parameters["properties"] == {"what": {}}
    assert "required" not in look.schema.parameters


def test_a_changed_name_or_description_changes_the_schema() -> None:
    one = PrimeTool()
    assert one.schema is one.schema
    one.description = "Other words."
    one.name = "other"
    assert (one.schema.name, one.schema.description) == ("other", "Other words.")


def test_lambdas_partials_methods_objects_and_functions_without_source() -> None:
    class Shop:
        def price(self, item: str) -> int:
            """The price of an item."""
            return len(item)

    class UpperCase:
        def __call__(self, text: str) -> str:
            """Make it upper case."""
            return text.upper()

    def greet(name: str, *, secret: str) -> str:
        """Greet somebody."""
        return name + secret

    namespace: dict[str, Any] = {}
    exec('def made(a: int) -> int:\n    """Made in a REPL."""\n    return a + 1', namespace)
    tools = collect(
        [
            Shop().price,
            UpperCase(),
            functools.partial(greet, secret="key"),
            namespace["made"],
            tool(cast("Any", lambda x: x), name="same", description="Give it back."),  # pyright: ignore
        ]
    )
    assert list(tools) == ["price", "upper_case", "greet", "made", "same"]
    assert list(tools["greet"].schema.parameters["properties"]) == ["name"], "what the program bound is not the model's"
    assert tools["same"].schema.parameters["properties"] == {"x": {}}
    assert tools["made"].description == "Made in a REPL."


def test_a_strange_docstring_is_a_description() -> None:
    def odd(a: int) -> int:
        """Args: : :

        a -> : ( what"""
        return a

    assert tool(odd, description="x").name == "odd"
    assert tool(odd).schema.description


class TestRefused:
    """Each with the name of what is wrong, and how to mend it."""

    def refused(self, make: Callable[[], object], *words: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert caught.value.hint
        for word in words:
            assert word in caught.value.message

    def test_no_type_hint(self) -> None:
        namespace: dict[str, Any] = {}
        exec('def f(a: int, b=1):\n    """Doc."""', namespace)
        self.refused(lambda: tool(namespace["f"]), "`f`", "`b`", "type hint")

    def test_no_docstring(self) -> None:
        def f(a: int) -> int:
            return a

        self.refused(lambda: tool(f), "`f`", "description")

    def test_a_docstring_without_a_description(self) -> None:
        def f(a: int) -> int:
            """
            Args:
                a: number
            """
            return a

        self.refused(lambda: tool(f), "`f`", "description")

    def test_stars(self) -> None:
        def f(*args: int) -> None:
            """Doc."""

        def g(**kwargs: int) -> None:
            """Doc."""

        self.refused(lambda: tool(f), "`*args`")
        self.refused(lambda: tool(g), "`**kwargs`")

    def test_a_type_that_cannot_be_found(self) -> None:
        def f(price: Decimal) -> None:
            """Doc."""

        self.refused(lambda: tool(f).schema, "`f`", "`price`", "Decimal")

    def test_a_type_without_a_schema(self) -> None:
        class Opaque:
            pass

        def f(a: int, thing: Opaque) -> None:
            """Doc."""

        self.refused(lambda: to_tool(f), "`f`", "`thing`")
        self.refused(lambda: to_tool(tool(f)), "`thing`")

    def test_a_callable_as_argument(self) -> None:
        def f(hook: Callable[[], None]) -> None:
            """Doc."""

        self.refused(lambda: to_tool(f), "`hook`")

    def test_an_unbound_method(self) -> None:
        namespace: dict[str, Any] = {}
        exec('def f(self, a: int):\n    """Doc."""', namespace)
        self.refused(lambda: tool(namespace["f"]), "not bound")

    def test_a_bare_lambda(self) -> None:
        self.refused(lambda: to_tool(lambda x: x), "lambda")  # pyright: ignore

    @pytest.mark.parametrize(
        "name", ["two words", "class", "1st", "", "a-b", "prüfe", "x" * 65, "final_answer", None, 3]
    )
    def test_names(self, name: object) -> None:
        self.refused(lambda: check_name(name), "" if not name else str(name)[:20])

    def test_a_name_given_to_a_tool(self) -> None:
        self.refused(lambda: tool(lambda: 1, name="two words", description="x"), "two words")

    def test_two_tools_of_one_name(self) -> None:
        self.refused(lambda: collect([PrimeTool(), PrimeTool()]), "`smallest_prime_factor`")

    def test_the_same_tool_twice_is_one(self) -> None:
        assert list(collect([celsius_to_fahrenheit, celsius_to_fahrenheit])) == ["celsius_to_fahrenheit"]

    @pytest.mark.parametrize("thing", [3, "celsius_to_fahrenheit", None, object()])
    def test_things_that_are_no_tool(self, thing: object) -> None:
        self.refused(lambda: to_tool(thing), "no tool")

    def test_a_class(self) -> None:
        with pytest.raises(ConfigurationError, match=r"PrimeTool\(\)"):
            to_tool(PrimeTool)

    def test_a_text_for_the_list(self) -> None:
        self.refused(lambda: collect("abc"), "abc")

    @pytest.mark.parametrize("timeout", [0, -1, float("nan")])
    def test_timeouts(self, timeout: float) -> None:
        self.refused(lambda: tool(lambda: 1, name="f", description="x", timeout=timeout), "timeout")


class TestRefusedClasses:
    def refused(self, attributes: dict[str, Any], *words: str) -> None:
        def forward(self: object, n: Any) -> Any:
            return n

        whole: dict[str, Any] = {"name": "f", "description": "Doc.", "forward": forward, **attributes}
        with pytest.raises(ConfigurationError) as caught:
            to_tool(cast("Any", type("Made", (Tool,), {k: v for k, v in whole.items() if v is not None}))())
        for word in words:
            assert word in str(caught.value)

    def test_without_name_description_or_forward(self) -> None:
        self.refused({"name": None}, "name")
        self.refused({"description": None}, "description")
        self.refused({"forward": None}, "forward")

    def test_inputs_that_do_not_fit_forward(self) -> None:
        self.refused({"inputs": {"m": {"type": "integer"}}}, "`m`", "`n`")

    @pytest.mark.parametrize("body", [{"type": "int"}, {}, "integer", {"type": ["string", "nil"]}, {"type": 3}])
    def test_malformed_inputs(self, body: object) -> None:
        self.refused({"inputs": {"n": body}}, "inputs['n']", "integer")

    def test_a_type_that_contradicts_the_hint(self) -> None:
        def forward(self: object, n: str) -> str:
            return n

        self.refused({"inputs": {"n": {"type": "integer"}}, "forward": forward}, "'integer'", "n: str")

    def test_an_output_type_that_is_none(self) -> None:
        self.refused({"inputs": {"n": {"type": "integer"}}, "output_type": "int"}, "output_type", "integer")
