"""The cost table says who spent what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from wherry.journal import Event, EventType
from wherry.messages import Usage
from wherry.observe.costs import Costs, aligned, dollars


def event(type_: EventType, run: str = "r1", agent: str = "boss", **payload: Any) -> Event:
    return Event(run, None, agent, 1, 0.0, type_, payload)


def replied(usage: Usage, **where: str) -> Event:
    return event(EventType.MODEL_REPLIED, usage=usage.to_json(), **where)


def test_a_row_per_agent_and_model_and_a_total() -> None:
    costs = Costs()
    costs(event(EventType.RUN_STARTED, model="big"))
    costs(event(EventType.MODEL_REQUESTED))
    costs(replied(Usage(1, 1000, 400, 20, seconds=1.5, usd=Decimal("0.25"))))
    costs(event(EventType.AGENT_CALLED))
    costs(event(EventType.RUN_STARTED, "r2", "helper", model="small"))
    costs(event(EventType.MODEL_REQUESTED, "r2", "helper"))
    costs(replied(Usage(1, 10, 0, 2, seconds=0.5, usd=Decimal("0.5")), run="r2", agent="helper"))
    costs(event(EventType.TOOL_CALLED, "r2", "helper"))
    costs(event(EventType.TOOL_CALLED, "r2", "helper"))
    costs(event(EventType.MODEL_REQUESTED))
    costs(replied(Usage(1, 1000, 0, 20, seconds=1.5, usd=Decimal("0.25"))))

    assert costs.rows()[1:] == [
        ("boss", "big", "2", "2,000", "400", "40", "1", "3.0", "0.5000"),
        ("helper", "small", "1", "10", "0", "2", "2", "0.5", "0.5000"),
        ("total", "", "3", "2,010", "400", "42", "3", "3.5", "1.0000"),
    ]


def test_an_unknown_price_makes_the_sum_unknown() -> None:
    costs = Costs()
    costs(event(EventType.RUN_STARTED, model="m"))
    costs(replied(Usage(1, usd=Decimal(1))))
    costs(replied(Usage(1, usd=None)))
    assert costs.rows()[-1][-1] == "?"


def test_a_failed_request_is_a_request() -> None:
    costs = Costs()
    costs(event(EventType.RUN_STARTED, model="m"))
    costs(event(EventType.MODEL_REQUESTED))
    costs(event(EventType.MODEL_FAILED, kind="Timeout", message="late"))
    assert costs.total.requests == 1


def test_a_kept_answer_is_no_request() -> None:
    costs = Costs()
    costs(event(EventType.RUN_STARTED, model="m"))
    costs(event(EventType.MODEL_REQUESTED))
    costs(replied(Usage(0, seconds=0.1)))
    assert costs.total.requests == 0


def test_amounts_never_round_down_to_nothing() -> None:
    assert [dollars(Decimal(text)) for text in ("0", "0.00001", "0.0123", "2")] == ["0", "<0.0001", "0.0123", "2.0000"]


def test_columns_line_up() -> None:
    lines = list(aligned([("a", "x", "1"), ("long", "", "1,000")]))
    assert lines == ["a     x      1", "long     1,000"]
