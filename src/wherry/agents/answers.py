"""Whether a final answer is one: its type, then the user's checks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from wherry.errors import ConfigurationError, OutputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Check = Callable[[Any], object]
"""Gets the answer. None, or anything true but a text, accepts it; a text, anything else false, or an exception refuses
it, and the model is told why. A check that is no coroutine function runs in a thread."""


class AnswerRules:
    """What an agent's answer must be.

    Raises:
        ConfigurationError: pydantic cannot describe `output_type`.
    """

    def __init__(self, output_type: Any, checks: Sequence[Check]) -> None:  # Any: whatever pydantic can validate
        self._output_type = output_type
        self._checks = tuple(_checked(check) for check in checks)
        if output_type is not None:
            _ = self.schema

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            return TypeAdapter(self._output_type)
        except (PydanticUserError, SyntaxError, NameError, TypeError) as error:
            raise ConfigurationError(
                f"output_type {self._output_type!r} is no type that pydantic can validate: {error}",
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
        value = self.typed(answer)
        for check in self._checks:
            await self._ask(check, value)
        return value

    def typed(self, answer: Any) -> Any:
        """The answer as `output_type`, without the checks.

        Raises:
            OutputError: it has another type.
        """
        if self._output_type is None:
            return answer
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(answer)
        except ValidationError as first:
            if isinstance(answer, str):  # a model without structured answers writes JSON as text
                try:
                    return self._adapter.validate_python(json.loads(answer))
                except (ValidationError, ValueError, RecursionError):
                    pass
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in first.errors(include_url=False)[:5]
            )
            raise OutputError(f"it has the wrong type ({problems})") from first

    async def _ask(self, check: Check, value: Any) -> None:
        name = getattr(check, "__name__", type(check).__name__)
        try:
            if inspect.iscoroutinefunction(check):
                verdict: object = await check(value)
            else:
                # In a thread: a check may block, and may itself run an agent.
                verdict = await anyio.to_thread.run_sync(check, value)
                if inspect.isawaitable(verdict):
                    verdict = await verdict
        except (Exception, SystemExit) as error:  # a check refuses by raising whatever it likes
            raise OutputError(f"{name}: {error or type(error).__name__}") from error
        if isinstance(verdict, str) and verdict:
            raise OutputError(verdict)
        if verdict is not None and not verdict:
            raise OutputError(f"it failed the check {name!r}")


def _checked(check: Check) -> Check:
    """Refuse here what would look like a refusal of every answer later."""
    if not callable(check):
        raise ConfigurationError(
            f"the final answer check {check!r} is no function", hint="give functions of the answer"
        )
    try:
        inspect.signature(check).bind(object())
    except TypeError as error:
        name = getattr(check, "__name__", type(check).__name__)
        raise ConfigurationError(
            f"the final answer check {name!r} cannot be called with the answer alone: {error}",
            hint="a check takes one argument",
        ) from error
    except ValueError:
        pass  # built-in functions without a signature
    return check
