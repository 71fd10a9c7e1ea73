"""What goes wrong in an agent's step, by the names that smolagents has for it."""

from __future__ import annotations

from typing import Protocol


class ErrorLog(Protocol):
    """What an error is told to when it is made."""

    def log_error(self, error_message: str) -> None: ...


class AgentError(Exception):
    """Base of the errors of agents. One in a step is what the model is told of it; one that is raised ended the run."""

    def __init__(self, message: str, logger: ErrorLog | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.run_id: str | None = None
        """Of one that ended a run: `wherry show RUN` has what happened."""
        if logger is not None:
            logger.log_error(message)

    def dict(self) -> dict[str, str]:
        return {"type": type(self).__name__, "message": str(self.message)}


class AgentParsingError(AgentError):
    """A reply holds no code, or no tool call."""


class AgentExecutionError(AgentError):
    """A snippet failed."""


class AgentMaxStepsError(AgentError):
    """The steps ran out."""


class AgentToolCallError(AgentExecutionError):
    """A tool was called with arguments that do not fit."""


class AgentToolExecutionError(AgentExecutionError):
    """A tool failed, or there is none of that name."""


class AgentGenerationError(AgentError):
    """The model could not be asked. It ends the run."""
