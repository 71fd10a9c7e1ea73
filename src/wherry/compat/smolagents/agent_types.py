"""What an answer is made of: a text, a picture, a sound."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, cast


class AgentType:
    """Something that an agent gives or takes: `to_raw()` is the thing itself, `to_string()` a text for it."""

    def __init__(self, value: Any) -> None:  # Any: of any kind
        self._value = value

    def to_raw(self) -> Any:
        return self._value

    def to_string(self) -> str:
        return str(self._value)

    def __str__(self) -> str:
        return self.to_string()


class AgentText(AgentType, str):
    """A text that also is a `str`."""

    def to_raw(self) -> str:
        return str.__str__(self)

    def to_string(self) -> str:
        return str.__str__(self)

    def __str__(self) -> str:
        return str.__str__(self)


class AgentImage(AgentType):
    """A picture: a `PIL.Image.Image`, or anything that can `save` itself; `to_string()` is a file's path.

    What the picture itself can do (`save`, `size`, `show`) can be asked of this, and `isinstance` takes it for one.
    """

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride] - PIL is not to be imported for it
        value = self.__dict__.get("_value")
        return cast("type", type(value)) if _is_image(value) else AgentImage

    def __reduce__(self) -> tuple[type[AgentImage], tuple[Any]]:
        return AgentImage, (self._value,)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array_interface__":  # copying and pickling look for some
            raise AttributeError(name)
        return getattr(self.__dict__["_value"], name)

    def to_string(self) -> str:
        if isinstance(self._value, str):
            return self._value
        with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as file:
            self._value.save(file, format="png")
        return file.name


class AgentAudio(AgentType):
    """A sound: a path, or samples as they came."""


def handle_agent_output_types(output: Any, output_type: str | None = None) -> Any:  # Any: of any kind
    """An output as agents give it: text as `AgentText`, a picture as `AgentImage`."""
    if isinstance(output, AgentType):
        return output
    if output_type == "string" or isinstance(output, str):
        return AgentText(output) if isinstance(output, str) else output
    if output_type == "audio":
        return AgentAudio(output)
    if output_type == "image" or _is_image(output):
        return AgentImage(output)
    return output


def handle_agent_input_types(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The things themselves."""

    def raw(value: Any) -> Any:
        return value.to_raw() if isinstance(value, AgentType) else value

    return tuple(raw(value) for value in args), {key: raw(value) for key, value in kwargs.items()}


def _is_image(value: object) -> bool:
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in cast("type", type(value)).__mro__]
    return "PIL.Image.Image" in kinds


def picture_of(data: bytes) -> object:
    """A picture of its bytes, for a program: a `PIL.Image.Image`, or the bytes where PIL is not installed."""
    import io

    try:
        from PIL import Image
    except ImportError:
        return data
    return Image.open(io.BytesIO(data))


def png_of(image: object) -> bytes:
    """A picture's bytes as PNG.

    Raises:
        ValueError: it cannot be saved.
    """
    import io

    picture = image.to_raw() if isinstance(image, AgentType) else image
    save = cast("Callable[..., object] | None", getattr(picture, "save", None))
    if save is None:
        raise ValueError(f"{picture!r} is no picture: give PIL images")
    out = io.BytesIO()
    save(out, format="PNG")
    return out.getvalue()
