"""What smolagents does to keep and share agents, and is not done here."""

from __future__ import annotations

from typing import Any

from wherry.errors import ConfigurationError


class NotKept:
    """Says so, instead of failing in some other way."""

    def save(self, *_: object, **__: object) -> None:
        raise _kept_as_code("save an agent")

    def push_to_hub(self, *_: object, **__: object) -> None:
        raise _kept_as_code("push an agent to a hub")

    def to_dict(self) -> dict[str, Any]:
        raise _kept_as_code("turn an agent into a dict")

    @classmethod
    def from_hub(cls, *_: object, **__: object) -> Any:
        raise _kept_as_code("load agents from a hub")

    @classmethod
    def from_folder(cls, *_: object, **__: object) -> Any:
        raise _kept_as_code("load agents from a folder")

    @classmethod
    def from_dict(cls, *_: object, **__: object) -> Any:
        raise _kept_as_code("make an agent of a dict")


def _kept_as_code(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"wherry does not {what}", hint="keep agents as code, in a repository: what runs is then what was reviewed"
    )
