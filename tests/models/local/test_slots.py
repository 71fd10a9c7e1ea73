"""Which conversation gets which slot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wherry.messages import Message
from wherry.models.local.slots import Place, SlotTable, place_of


def place(agent: str, task: str, *, beginning: str = "shared") -> Place:
    return place_of([Message("system", agent), Message("user", task)], [Message("system", beginning)])


def use(table: SlotTable, where: Place) -> tuple[int | None, bool]:
    slot, known = table.take(where)
    table.give_back(slot)
    return slot, known


def test_a_crew_keeps_a_slot_each() -> None:
    table = SlotTable(3)
    manager, math, research = place("manager", "t"), place("math", "a"), place("research", "b")
    assert [use(table, who)[0] for who in (manager, math, research)] == [0, 1, 2]
    for again in ("c", "d", "e"):  # new tasks for one specialist take its own slot, not the manager's
        assert use(table, place("math", again))[0] == 1
    assert use(table, manager) == (0, True)
    assert use(table, research) == (2, True)


def test_parallel_calls_of_one_agent_get_slots_of_their_own() -> None:
    table = SlotTable(2)
    assert table.take(place("math", "a")) == (0, False)
    assert table.take(place("math", "b")) == (1, False)
    assert table.take(place("math", "c")) == (None, True)
    table.give_back(0)
    assert table.take(place("math", "c")) == (0, True)


def test_the_slot_unused_for_longest_goes_first() -> None:
    table = SlotTable(2)
    for agent in ("a", "b", "a"):
        use(table, place(agent, "t", beginning=agent))
    assert use(table, place("c", "t", beginning="c")) == (1, False)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xy"), st.booleans())))
def test_no_slot_is_given_twice_at_a_time(steps: list[tuple[str, str, bool]]) -> None:
    table = SlotTable(3)
    busy: list[int] = []
    for agent, task, give in steps:
        if give and busy:
            table.give_back(busy.pop())
        slot, _ = table.take(place(agent, task))
        assert (slot is None) == (len(busy) == 3)
        if slot is not None:
            assert slot not in busy
            busy.append(slot)
