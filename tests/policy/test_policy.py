"""What policies are made of, and what they say of a call."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping, Sequence
from functools import partial, wraps
from typing import Any

import pytest
from pydantic import AnyUrl

from wherry import Policy, ScriptedModel, Tool, ToolCallingAgent, open_store, tool
from wherry.errors import ConfigurationError, ToolArgumentError
from wherry.messages import ToolCall
from wherry.models import ModelReply
from wherry.policy import Rule
from wherry.redaction import redact, redact_bytes, redact_json
from wherry.tools import StartedCall, signature, to_tool
from wherry.tools.intent import with_intent


def pay(amount: float, to: str = "nobody") -> str:
    """Pay somebody.

    Args:
        amount: Euros.
        to: Who.
    """
    return f"paid {amount} to {to}"


def large(arguments: Mapping[str, Any]) -> bool:
    return arguments["amount"] > 100


def denied(policy: Policy, given: Tool, arguments: Mapping[str, Any], *, name: str = "") -> str:
    network = (given.network,) if isinstance(given.network, str) else tuple(given.network)
    return policy.denied(name or given.name, given.schema, network, given.checked(arguments))


def test_options_are_kept_and_checked() -> None:
    made = tool(needs_approval=large, side_effects=True, idempotent=True, checker=lambda call: None, network="to")(pay)
    assert (made.needs_approval, made.side_effects, made.idempotent, made.network) == (large, True, True, "to")
    assert made.checker is not None
    plain = tool(pay)
    assert (plain.needs_approval, plain.side_effects, plain.idempotent, plain.checker) == (False, False, False, None)
    assert plain.network == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"needs_approval": "yes"},
        {"side_effects": 1},
        {"idempotent": None},
        {"checker": "me"},
        {"network": 3},
        {"network": [3]},
        {"timeout": 0},
        {"cache": "long"},
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        tool(**wrong)(pay)


async def later(arguments: Mapping[str, Any]) -> bool:
    return arguments["amount"] > 100


class Asynchronous:
    async def __call__(self, arguments: Mapping[str, Any]) -> bool:
        return await later(arguments)

    async def asks(self, arguments: Mapping[str, Any]) -> bool:
        return await later(arguments)


@wraps(later)
def wrapped(arguments: Mapping[str, Any]) -> object:
    return later(arguments)


@pytest.mark.parametrize("when", [later, Asynchronous(), Asynchronous().asks, partial(later), wrapped])
def test_questions_about_arguments_that_are_async_are_refused(when: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"tool `pay`: needs_approval is .* async.*\n?.*plain function"):
        tool(needs_approval=when)(pay)
    options: list[dict[str, Any]] = [{"approve": [("pay", when)]}, {"deny": [("pay_*", when)]}]
    for rules in options:
        with pytest.raises(ConfigurationError, match=r"for 'pay.* async.*\n?.*plain function"):
            Policy(**rules)

    class Later(Transfer):
        needs_approval = when

    with pytest.raises(ConfigurationError, match="tool `transfer`: needs_approval"):
        to_tool(Later())
    assert to_tool(Foreign(needs_approval=when)).needs_approval is True


def test_a_question_whose_answer_turns_out_to_be_async_fails_the_run_and_makes_no_call() -> None:
    paid: list[float] = []

    @tool
    def give(amount: float) -> None:
        """Give."""
        paid.append(amount)

    call = ModelReply(tool_calls=[ToolCall("1", "give", {"amount": 5})])
    policy = Policy(deny=[("give", lambda arguments: later(arguments))])
    agent = ToolCallingAgent([give], ScriptedModel([call]), policy=policy, store=open_store("memory://"))
    with pytest.raises(ConfigurationError, match="is async"):
        agent.run("give")
    assert paid == []


def test_an_unknown_option_is_a_type_error() -> None:
    unknown: dict[str, Any] = {"aproval": True}
    with pytest.raises(TypeError, match="aproval"):
        tool(pay, **unknown)


class Transfer(Tool):
    name = "transfer"
    description = "Move money."
    side_effects = True

    def forward(self, amount: float) -> str:
        return f"moved {amount}"

    def needs_approval(self, arguments: Mapping[str, Any]) -> bool:
        return arguments["amount"] > 5

    def checker(self, call: StartedCall) -> object:
        return f"{self.name} {call.key}"


def test_a_subclass_says_it_in_attributes_and_methods() -> None:
    one = to_tool(Transfer())
    assert one.side_effects
    assert callable(one.needs_approval)
    assert one.needs_approval({"amount": 6.0}) is True
    assert one.checker is not None
    assert one.checker(StartedCall("transfer", {}, "r", "c", "r:c")) == "transfer r:c"


def test_a_subclass_with_a_wrong_attribute_is_refused() -> None:
    class Wrong(Transfer):
        side_effects: Any = "perhaps"

    with pytest.raises(ConfigurationError, match="side_effects"):
        to_tool(Wrong())


class Foreign:
    """Shaped like a tool of smolagents."""

    def __init__(self, **options: object) -> None:
        self.__dict__.update(options)

    name = "foreign"
    description = "Does something."
    inputs: Mapping[str, Any] = {"to": {"type": "string", "description": "Who."}}
    output_type = "string"

    def forward(self, to: str) -> str:
        return to


def test_foreign_tools_keep_what_they_carry() -> None:
    made = to_tool(Foreign(needs_approval=True, side_effects=True, checker="something else of theirs"))
    assert (made.needs_approval, made.side_effects, made.checker) == (True, True, None)

    def plain(to: str) -> str:
        """Say it."""
        return to

    vars(plain)["needs_approval"] = True
    assert to_tool(plain).needs_approval is True


def test_arguments_are_seen_as_the_tool_gets_them() -> None:
    assert tool(pay).checked({"amount": "12"}) == {"amount": 12.0, "to": "nobody"}
    with pytest.raises(ToolArgumentError, match="amount"):
        tool(pay).checked({"amount": "much"})


def test_rules_by_name_glob_and_arguments() -> None:
    policy = Policy(
        approve=["delete_*", ("pay", large)], deny=[Rule("pay", lambda a: a["to"] == "evil", reason="never to him")]
    )
    assert policy.asks("delete_all", {}) == "the policy asks for approval of `delete_all`"
    assert policy.asks("pay", {"amount": 101.0}) == "the policy asks for approval of `pay` with these arguments"
    assert not policy.asks("pay", {"amount": 100.0})
    assert denied(policy, tool(pay), {"amount": 1, "to": "evil"}) == "never to him"
    assert not denied(policy, tool(pay), {"amount": 1})


def test_a_question_that_fails_lets_nothing_pass() -> None:
    policy = Policy(approve=[("pay", lambda a: a["missing"])], deny=[("give", lambda a: a["missing"])])
    assert policy.asks("pay", {})
    assert denied(policy, tool(pay), {"amount": 1}, name="give")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"approve": "pay"}, "approve"),
        ({"approve": [3]}, "3"),
        ({"approve": [("pay", "no function")]}, "no function"),
        ({"deny": ["no name"]}, "no name"),
        ({"new_tools": "perhaps"}, "perhaps"),
        ({"egress": "example.org"}, "egress"),
        ({"egress": ["https://example.org/x"]}, "https://example.org/x"),
        ({"egress": [""]}, "no host"),
        ({"redact": ["("]}, "no pattern"),
        ({"redact": ["x*"]}, "nothing in particular"),
        ({"redact": [re.compile(b"x")]}, "no pattern"),
        ({"intent": 1}, "intent"),
    ],
)
def test_policies_that_cannot_be_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        Policy(**wrong)


def fetch(url: str) -> str:
    """Fetch a page."""
    return url


def fetch_typed(page: AnyUrl, others: Sequence[AnyUrl] = ()) -> str:
    """Fetch pages."""
    return f"{page} {others}"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://example.org/page?q=1", True),
        ("https://EXAMPLE.org./", True),
        ("example.org", True),
        ("https://sub.example.org/", False),
        ("https://a.b.example.net/", True),
        ("https://example.net/", False),
        ("https://example.org.evil.com/", False),
        ("https://example.org@evil.com/", False),
        ("https://evil.com#@example.org", False),
        ("https://evil.com\\@example.org/", False),
        ("https://evil.com/\n@example.org", False),
        ("http://localhost:8080/x", True),
        ("http://localhost:8081/x", False),
        ("http://10.1.2.3/", True),
        ("http://11.1.2.3/", False),
        ("http://[fd00::1]/", True),
        ("http://0x0a010203/", False),
        ("file:///etc/passwd", False),
        ("https://münchen.example/", True),
        ("https://xn--mnchen-3ya.example/", True),
        ("http://example.org:99999/", False),
        ("", False),
    ],
)
def test_egress(address: str, allowed: bool) -> None:
    hosts = ["example.org", "*.example.net", "localhost:8080", "10.0.0.0/8", "fd00::/8", "münchen.example"]
    policy = Policy(egress=hosts)
    said = denied(policy, tool(fetch, network="url"), {"url": address})
    assert (said == "") is allowed, said


def test_egress_knows_addresses_by_their_format() -> None:
    policy = Policy(egress=["example.org"])
    made = tool(fetch_typed)
    assert not denied(policy, made, {"page": "https://example.org/"})
    assert "evil.com" in denied(policy, made, {"page": "https://evil.com/"})
    assert "evil.com" in denied(policy, made, {"page": "https://example.org/", "others": ["https://evil.com/"]})


@pytest.mark.usefixtures("collected")
def test_redaction_by_patterns_lasts_as_long_as_the_policy() -> None:
    policy = Policy(redact=[r"\b\d{4}-\d{4}\b", re.compile("(?i)project falcon")])
    assert redact("call 1234-5678 about Project Falcon") == "call … about …"
    said = b'{"a":"1234-5678","n":12345678,"quote\\"":["PROJECT falcon\\n"]}'
    assert redact_json(said) == '{"a":"…","n":12345678,"quote\\"":["…\\n"]}'.encode()
    assert b"1234-5678" not in redact_json(b'{"a":"1234-5678"}')
    assert redact_bytes(b"no JSON: 1234-5678 \xff") == "no JSON: … ".encode() + b"\xff"
    untouched = b'{"digest":"' + b"0123456789abcdef" * 4 + b'"}'
    more = Policy(redact=[r"\d{3}"])
    assert redact_json(untouched) is untouched
    del policy, more
    gc.collect()
    assert redact("call 1234-5678") == "call 1234-5678"


def test_intent_is_one_argument_more() -> None:
    made = with_intent(tool(pay))
    assert made.schema.parameters["required"] == ["amount", "intent"]
    assert "intent: str" in signature(made.schema)
    assert made.bind([5], {"intent": "rent"}) == {"amount": 5, "intent": "rent"}
    assert made.bind([5, "ann", "rent"], {}) == {"amount": 5, "to": "ann", "intent": "rent"}
    assert made.checked({"amount": 5, "intent": "rent"}) == {"amount": 5.0, "to": "nobody"}
    with pytest.raises(ToolArgumentError, match="`intent` is missing"):
        made.checked({"amount": 5})

    def plan(intent: str) -> str:
        """Make a plan."""
        return intent

    own = tool(plan)
    assert with_intent(own) is own


@pytest.mark.usefixtures("collected")
def test_a_policy_can_be_read() -> None:
    policy = Policy(approve=["a"], deny=[("b", large)], egress=["x.org"], new_tools="deny", redact=["se+cret"])
    written = policy.to_json()
    assert written["approve"] == [{"tools": "a"}]
    assert "arguments['amount'] > 100" in written["deny"][0]["when"].replace('"', "'")
    assert (written["egress"], written["new_tools"], written["redact"]) == (["x.org"], "deny", ["se+cret"])
    assert Policy().to_json() == {}
    assert Policy(approve=["a"]).digest == Policy(approve=["a"]).digest != Policy(approve=["b"]).digest
