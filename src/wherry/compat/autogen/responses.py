"""A reply as the openai package has it, without the package."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast  # Any: JSON

from wherry.compat.autogen.asking import Answered
from wherry.compat.autogen.messages import Dict


class Part(SimpleNamespace):
    """Attributes, and what models of pydantic have: programs use both."""

    def model_dump(self, **options: Any) -> Dict:
        """It as dicts and lists.

        Args:
            options: `exclude_none` leaves out what is not there; others mean nothing here.
        """
        return _plain(self, bool(options.get("exclude_none")))

    to_dict = dict = model_dump

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """It as JSON."""
        return json.dumps(self.model_dump(**options), indent=indent, ensure_ascii=False)


def _plain(value: Any, bare: bool) -> Any:
    if isinstance(value, Part):
        held = value.__dict__.items()
        return {key: _plain(one, bare) for key, one in held if not (bare and one is None)}
    if isinstance(value, list):
        return [_plain(one, bare) for one in cast("list[Any]", value)]
    return value


def completion(answered: Answered, calls: Sequence[Dict], cost: float) -> Part:
    """A reply of a model, as a `ChatCompletion`."""
    made = [Part(**{**call, "function": Part(**call["function"])}) for call in calls]
    message = Part(role="assistant", content=answered.reply.text or None, tool_calls=made or None, function_call=None)
    finished = answered.reply.finish_reason or ("tool_calls" if made else "stop")
    into, out = answered.usage.input_tokens, answered.usage.output_tokens
    return Part(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        object="chat.completion",
        created=int(time.time()),
        model=answered.model,
        choices=[Part(index=0, message=message, finish_reason=finished)],
        usage=Part(prompt_tokens=into, completion_tokens=out, total_tokens=into + out),
        cost=cost,
    )
