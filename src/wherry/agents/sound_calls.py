"""A reply's tool calls as they can be kept and sent back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wherry.messages import ToolCall
from wherry.models.tool_arguments import PARSE_ERROR, RAW

_DEEPEST = 100
"""Levels of a call's arguments. Nothing means more, and at 1,000 they can neither be stored nor sent back."""
_TOO_DEEP: Mapping[str, Any] = {RAW: "", PARSE_ERROR: f"the arguments are nested deeper than {_DEEPEST} levels"}


def sound_calls(calls: Sequence[ToolCall], step: int) -> tuple[ToolCall, ...]:
    """Calls that can be kept, with an id each, all different: some servers send none, or the same one twice."""
    seen: set[str] = set()
    out: list[ToolCall] = []
    for number, call in enumerate(calls):
        sound = call if _depth_is_sound(call.arguments) else replace(call, arguments=_TOO_DEEP)
        unique = sound if sound.id and sound.id not in seen else replace(sound, id=f"call_{step}_{number}")
        seen.add(unique.id)
        out.append(unique)
    return tuple(out)


def _depth_is_sound(arguments: Mapping[str, Any]) -> bool:
    level: list[Any] = [arguments]
    for _ in range(_DEEPEST):
        level = [
            item
            for one in level
            for item in (one.values() if hasattr(one, "values") else one)
            if isinstance(item, dict | list | tuple)
        ]
        if not level:
            return True
    return False
