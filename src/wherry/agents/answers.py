"""Whether a final answer is one: its type, then the user's checks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wherry.errors import ConfigurationError, OutputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Check = Callable[[Any], object]
"""Gets the answer; True or None accepts it. False, a text, or an exception refuses it, and the model is told why."""


class AnswerRules:
    """What an agent's answer must be.

    Raises:
        ConfigurationError: pydantic cannot describe `output_type`.
    """

    def __init__(self, output_type: Any, checks: Sequence[Check]) -> None:  # Any: whatever pydantic can validate
        self._output_type = output_type
        self._checks = tuple(checks)
        if output_type is not None:
            _ = self.schema

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            return TypeAdapter(self._output_type)
        except PydanticUserError as error:
            raise ConfigurationError(
                f"output_type {self._output_type!r} is no type that pydantic can validate: {error.message}",
                hint="give a class, a dataclass, a pydantic model, or a typing construct such as list[int]",
            ) from error

    @cached_property
    def schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of the answer; None if anything will do."""
        if self._output_type is None:
            return None
        from pydantic.errors import PydanticUserError

        try:
            return self._adapter.json_schema()
        except PydanticUserError as error:
            raise ConfigurationError(
                f"output_type {self._output_type!r} has no JSON schema: {error.message}"
            ) from error

    async def accept(self, answer: Any) -> Any:
        """The answer as `output_type`, once every check has accepted it.

        Raises:
            OutputError: it does not fit; the message is for the model.
        """
        value = self._typed(answer)
        for check in self._checks:
            await self._ask(check, value)
        return value

    def _typed(self, answer: Any) -> Any:
        if self._output_type is None:
            return answer
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(answer)
        except ValidationError as first:
            if isinstance(answer, str):  # a model without structured answers writes JSON as text
                try:
                    return self._adapter.validate_python(json.loads(answer))
                except (ValidationError, ValueError):
                    pass
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in first.errors(include_url=False)[:5]
            )
            raise OutputError(f"it has the wrong type ({problems})") from first

    async def _ask(self, check: Check, value: Any) -> None:
        name = getattr(check, "__name__", type(check).__name__)
        try:
            verdict = check(value)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        except Exception as error:  # a check refuses by raising whatever it likes
            raise OutputError(f"{name}: {error or type(error).__name__}") from error
        if verdict is False:
            raise OutputError(f"it failed the check {name!r}")
        if isinstance(verdict, str) and verdict:
            raise OutputError(verdict)
