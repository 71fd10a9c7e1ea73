"""Everything that can go wrong, in one tree.

    WherryError
    +-- ConfigurationError          the program is set up wrongly: names, types, missing model
    |   +-- MissingExtra            an optional dependency is not installed
    |   +-- ModelNotConfigured      no model was given and none is on this machine
    +-- ContextBudgetError          the pinned parts alone do not fit the window; no request was made
    +-- LimitReached                a call would spend more than the run was given; it was not made
    +-- ModelError                  a model's server failed, or its answer was none
    +-- ToolError                   a tool cannot be made, or a call failed; shown to the model
    |   +-- ToolArgumentError       the arguments do not fit the tool's schema
    |   +-- ToolTimeout             the tool did not return in time
    |   +-- Refuse                  a hook refuses what is about to happen; the model is told why
    +-- SandboxError                the sandbox broke
    |   +-- SandboxUnavailable      no tier that was asked for works on this machine
    |   +-- RebuildError            a session cannot be made again from what was recorded of it
    +-- StoreError                  the store cannot be read or written
    |   +-- StoreVersionError       the store was written by a newer wherry
    |   +-- StoreConflict           somebody else changed it in between; nothing was written
    +-- CatalogueError              a model file cannot be had
    |   +-- ModelFileError          the file is no GGUF, cut short, or has another hash
    |   +-- NotEnoughSpace          the disk has too little room for the download
    +-- RunNotFound                 no run of that id in the store
    +-- ApprovalError               there is no such question to a person, or not this answer to it
    +-- OutputError                 the final answer did not pass its type or its checks
    +-- HookError                   a hook of the program failed

A message says what, which and what to do; `hint` holds the last. Errors survive pickling.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any


class WherryError(Exception):
    """Base of all errors that wherry raises on purpose."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        run_id: str | None = None,
        diagnosis: Mapping[str, Any] | None = None,  # Any: JSON, for people and logs
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        """How to mend it, where that is known."""
        self.run_id = run_id
        """The run that this error ended, if it ended one."""
        self.diagnosis = diagnosis
        """What led to it: the kind of failure, sizes, what was tried."""

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle as class(*args); keyword-only arguments need the state to be restored.
        return (_restore, (type(self), self.args, self.__dict__))


def _restore(cls: type[WherryError], args: tuple[Any, ...], state: dict[str, Any]) -> WherryError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(WherryError):
    """The program is set up wrongly."""


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed.

    `extra` is the name of wherry's extra that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}", hint=f"pip install 'wherry[{extra}]'")
        self.extra = extra


class ModelNotConfigured(ConfigurationError):
    """No model was given and none is on this machine."""


class ContextBudgetError(WherryError):
    """The pinned parts of a request do not fit the window. Raised before any call.

    `diagnosis` has the table: part -> tokens, with `window`, `reserved_output` and `margin`.
    """


class LimitReached(WherryError):
    """A call would spend more than a run was given. It was not made.

    It ends the run whose limit it is, with the status `limit`: `agent.run` returns a result and does not raise it.
    """

    def __init__(self, limit: str, value: Decimal | float, *, owner: str, **rest: Any) -> None:
        super().__init__(f"the limit of {value} {limit} is reached", hint=f"raise it: Limits({limit}=...)", **rest)
        self.limit = limit
        """Its name in `Limits`."""
        self.value = value
        self.owner = owner
        """The id of the run that has the limit: the one that failed, or one above it."""


class ModelError(WherryError):
    """A model's server failed, or what it sent is no answer.

    `kind` is the name of the failure's kind, as in `wherry.models.FailureKind`.
    """

    def __init__(self, message: str, *, kind: str = "ServerError", **rest: Any) -> None:
        super().__init__(message, **rest)
        self.kind = kind


class ToolError(WherryError):
    """A tool cannot be made, or a call of it failed. A model is shown the message."""


class ToolArgumentError(ToolError):
    """The arguments do not fit the tool's schema."""


class ToolTimeout(ToolError):
    """The tool did not return in time."""


class Refuse(ToolError):
    """Raised by a hook's `before_*`: what is about to happen does not, and the model is told the message."""


class SandboxError(WherryError):
    """The sandbox broke: not the code in it, the sandbox."""


class SandboxUnavailable(SandboxError):
    """No tier that was asked for works on this machine. The message names the probe that failed."""


class RebuildError(SandboxError):
    """A session cannot be made again from what was recorded of it. The message names the snippet."""


class StoreError(WherryError):
    """The store cannot be read or written: locked, full, read-only, damaged."""


class StoreVersionError(StoreError):
    """The store was written by a newer wherry."""


class StoreConflict(StoreError):
    """Somebody else changed what was to be changed; nothing was written. Read it again and decide anew."""


class CatalogueError(WherryError):
    """A model of the catalogue cannot be had."""


class ModelFileError(CatalogueError):
    """A model file is no GGUF, is cut short, or has another hash than it should."""


class NotEnoughSpace(CatalogueError):
    """The disk has too little room for a download."""


class RunNotFound(WherryError):
    """No run of that id is in the store."""


class ApprovalError(WherryError):
    """What was to be decided waits for no decision, or not for this one."""


class OutputError(WherryError):
    """The final answer did not pass its type or its checks."""


class HookError(WherryError):
    """A hook raised what is no refusal, or returned what it cannot. It ended the run."""

    def __init__(self, message: str, *, hook: str, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.hook = hook
        """Its class and method: `Audit.before_tool`."""
