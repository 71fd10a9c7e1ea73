"""What classic programs catch."""

from __future__ import annotations


class InvalidCarryOverTypeError(TypeError):
    """What is carried over is neither a text nor a list of texts."""

    def __init__(
        self,
        message: str = "Carryover should be a string or a list of strings. Not adding carryover to the message.",
    ) -> None:
        super().__init__(message)
        self.message = message


InvalidCarryOverType = InvalidCarryOverTypeError


class SenderRequiredError(ValueError):
    """Chats of a queue have nobody who begins them."""

    def __init__(
        self, message: str = "Sender is required in the chat queue when recipient is not a ConversableAgent."
    ) -> None:
        super().__init__(message)
        self.message = message


SenderRequired = SenderRequiredError


class NoEligibleSpeakerError(Exception):
    """Nobody may speak next."""

    def __init__(self, message: str = "No eligible speaker.") -> None:
        super().__init__(message)
        self.message = message


NoEligibleSpeaker = NoEligibleSpeakerError


class UndefinedNextAgentError(Exception):
    """The agents do not overlap with those of the group."""

    def __init__(self, message: str = "The provided agents list does not overlap with agents in the group.") -> None:
        super().__init__(message)
        self.message = message


UndefinedNextAgent = UndefinedNextAgentError


class AgentNameConflictError(Exception):
    """Several agents have one name."""

    def __init__(self, message: str = "Found multiple agents with the same name.") -> None:
        super().__init__(message)
        self.message = message


AgentNameConflict = AgentNameConflictError
