"""What a server says of its model: the name, and the context length that it really has there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import quote

from wherry.models.pricing import listed_window

SECONDS = 3.0
"""For all questions together: a run should not wait for a server that answers none of them."""
OLLAMA_DEFAULT = 4096
"""What Ollama (0.12, under 24 GB of GPU memory) gives a model that nobody configured; it truncates silently."""


class GetJSON(Protocol):
    async def __call__(self, url: str, body: Mapping[str, Any] | None = None) -> object: ...


@dataclass(frozen=True, slots=True)
class Discovered:
    name: str | None = None
    """The model's name, where none was given and the server has one."""
    window: int | None = None
    final: bool = False
    """Whether asking again later could not give more."""
    slots: int | None = None
    """Requests that the server works on at the same time, each with a window of its own; None: it does not say."""


async def discover(get: GetJSON, base_url: str, name: str, *, hosted: bool = False) -> Discovered:
    """Ask a server for its model's name and window.

    Args:
        get: Fetches JSON from an address (with a body: by POST); may raise anything that a request raises.
        base_url: The server's, up to and with `/v1`.
        name: The model; `""` for the first that the server lists.
        hosted: OpenAI's own hosts do not say; the list of prices and limits does.
    """
    if hosted:
        return Discovered(name or None, listed_window(f"openai/{name}"), final=True)
    asker = _Asker(get, base_url.removesuffix("/").removesuffix("/v1").removesuffix("/openai"))
    try:
        async with asyncio.timeout(SECONDS):
            return await _ask(asker, base_url, name)
    except TimeoutError:
        # What was found before the time was over is not worth keeping: the next run asks again.
        return Discovered(name or None, listed_window(name or None))


async def _ask(ask: _Asker, base_url: str, name: str) -> Discovered:
    listed = await ask(f"{base_url}/models")
    entries = _mappings(_get(listed, "data"))
    entry = next((e for e in entries if e.get("id") == name), None)
    if entry is None and (not name or len(entries) == 1):
        entry = entries[0] if entries else None
    found = name or (str(entry["id"]) if entry is not None and entry.get("id") else None)
    owner = str(entry.get("owned_by", "")) if entry is not None else ""
    window = _listed(entry) if entry is not None else None
    # A name says more than a number: llama.cpp's list has the trained length, its /props the one it runs with.
    if owner == "llamacpp" or window is None:
        for question in _order(owner):
            if (answer := await question(ask, found or "")) is not None:
                return Discovered(found, answer.window, answer.final, answer.slots)
    if window is not None:
        return Discovered(found, window, final=True)
    return Discovered(found, listed_window(found), final=listed is not None)


@dataclass(frozen=True, slots=True)
class _Window:
    window: int
    final: bool = True
    slots: int | None = None


@dataclass(slots=True)
class _Asker:
    get: GetJSON
    root: str
    unreachable: bool = False

    async def __call__(self, url: str, body: Mapping[str, Any] | None = None) -> object:
        """The answer, or None: a server that does not know the question is no failure here."""
        if self.unreachable:
            return None
        try:
            return await self.get(url if url.startswith("http") else self.root + url, body)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001  # HTTP clients raise their own; none of it may end a run
            self.unreachable = getattr(error, "status_code", None) is None
            return None


Question = Callable[[_Asker, str], Coroutine[Any, Any, _Window | None]]


def _order(owner: str) -> Iterator[Question]:
    """The kinds of servers to try, the likely one first."""
    likely: dict[str, Question] = {
        "llamacpp": _llama_cpp,
        "library": _ollama,
        "organization_owner": _lm_studio,
        "sglang": _sglang,
        "koboldcpp": _kobold_cpp,
    }
    if owner in likely:
        yield likely[owner]
        return
    yield from (_llama_cpp, _ollama, _lm_studio, _tgi, _sglang, _kobold_cpp)


async def _llama_cpp(ask: _Asker, name: str) -> _Window | None:
    """`/props` has the context of one slot, which is what a request gets, and how many slots there are. A router of
    several models wants to be told which.
    """
    properties = await ask("/props")
    window = _number(_get(_get(properties, "default_generation_settings"), "n_ctx"))
    if window is None and properties is not None and name:
        properties = await ask(f"/props?model={quote(name, safe='')}")
        window = _number(_get(_get(properties, "default_generation_settings"), "n_ctx"))
    slots = _get(properties, "total_slots")
    if window is None:
        return None
    return _Window(window, slots=slots if isinstance(slots, int) and slots > 0 else None)


async def _ollama(ask: _Asker, name: str) -> _Window | None:
    """A loaded model says what it runs with; else what it is configured to, never what it was trained with."""
    loaded = await ask("/api/ps")
    if _get(loaded, "models") is None:
        return None
    for model in _mappings(_get(loaded, "models")):
        if name in (model.get("name"), model.get("model"), str(model.get("name", "")).removesuffix(":latest")):
            running = _number(model.get("context_length"))
            if running is not None:
                return _Window(running)
    shown = await ask("/api/show", {"model": name})
    if shown is None:
        return None
    configured = re.search(r"^\s*num_ctx\s+\"?(\d+)", str(_get(shown, "parameters") or ""), re.MULTILINE)
    info = cast("Mapping[str, object]", _get(shown, "model_info") or {})
    trained = next((_number(v) for k, v in info.items() if str(k).endswith(".context_length")), None)
    window = int(configured.group(1)) if configured else OLLAMA_DEFAULT
    # Not final: the first request loads the model, and then /api/ps knows.
    return _Window(min(window, trained or window), final=False)


async def _lm_studio(ask: _Asker, name: str) -> _Window | None:
    """The context that a model was loaded with: by the interface since 0.4, or the one before."""
    for model in _mappings(_get(await ask("/api/v1/models"), "models")):
        for instance in _mappings(model.get("loaded_instances")):
            length = _get(instance.get("config"), "context_length")
            if name in (model.get("key"), instance.get("id")) and (window := _number(length)) is not None:
                return _Window(window)
    for model in _mappings(_get(await ask("/api/v0/models"), "data")):
        if model.get("id") == name and (window := _number(model.get("loaded_context_length"))) is not None:
            return _Window(window)
    return None


async def _tgi(ask: _Asker, name: str) -> _Window | None:
    info = await ask("/info")
    return _window(_number(_get(info, "max_total_tokens")))


async def _sglang(ask: _Asker, name: str) -> _Window | None:
    """Versions whose list has no `max_model_len`."""
    info = await ask("/get_server_info") or await ask("/server_info")
    return _window(_number(_get(info, "context_length")))


async def _kobold_cpp(ask: _Asker, name: str) -> _Window | None:
    return _window(_number(_get(await ask("/api/extra/true_max_context_length"), "value")))


def _listed(entry: Mapping[str, Any]) -> int | None:
    """The window in an entry of `/v1/models`: vLLM and SGLang; OpenRouter and Together; Groq; Mistral."""
    for key in ("max_model_len", "context_length", "context_window", "max_context_length"):
        if (window := _number(entry.get(key))) is not None:
            return window
    return None


def _window(value: int | None) -> _Window | None:
    return None if value is None else _Window(value)


def _get(value: object, key: str) -> object:
    return cast("Mapping[str, object]", value).get(key) if isinstance(value, Mapping) else None


def _mappings(value: object) -> list[Mapping[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", item) for item in items if isinstance(item, Mapping)]


def _number(value: object) -> int | None:
    """A context length; 0 and nonsense are none."""
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 64 else None
