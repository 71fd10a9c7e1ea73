"""What is known of a failure, in one shape: status, codes, texts, headers, from whatever a server or an SDK gave."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

CODE_KEYS = frozenset(
    {
        *("code", "type", "error_type", "errortype", "status", "reason", "__type"),
        *("finish_reason", "stop_reason", "finishreason", "blockreason"),
    }
)
TEXT_KEYS = frozenset({"message", "msg", "error", "detail", "details", "error_message", "error_description", "raw"})

MAX_TEXT = 20_000
"""Characters of an answer that are looked at: a server may echo the whole prompt."""
MAX_DEPTH = 8

_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]{0,500}>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What classification looks at."""

    status: int | None
    codes: frozenset[str]
    """Machine-readable words of the answer, in lower case: `context_length_exceeded`, `insufficient_quota`."""
    text: str
    """What the server said in words, without markup; when it said nothing, what the exceptions say."""
    raised: str
    """What the exceptions say, where the server said something too: an SDK names its exceptions by the status alone."""
    detail: str
    """What the server said; when it said nothing, what the exceptions say."""
    names: frozenset[str]
    """Class names of the exceptions, with their bases, in lower case."""
    headers: Mapping[str, str]
    """Names in lower case."""
    numbers: Mapping[str, int]
    """Counts that the answer gives as fields of their own: `n_ctx`, `n_prompt_tokens`."""


def gather(
    *, status: int | None, body: object, headers: Mapping[str, str] | None, error: BaseException | str | None
) -> Evidence:
    """Put everything together. Nothing that a server sends makes this fail."""
    known_headers = {str(k).lower(): str(v) for k, v in (headers or {}).items()}
    texts: list[str] = []
    names: set[str] = set()
    bodies = [body]
    for exception in _chain(error):
        names.update(c.__name__.lower() for c in type(exception).__mro__ if c not in (object, BaseException, Exception))
        # LiteLLM puts a traceback into its message; the words of its source lines mean nothing here.
        said_by_exception = str(exception).partition("Traceback (most recent call last)")[0].strip()
        texts.append(f"{type(exception).__name__}: {said_by_exception}")
        bodies.append(_embedded(str(exception)))
        status = status if status is not None else _status_of(exception)
        bodies.append(getattr(exception, "body", None))
        response = getattr(exception, "response", None)
        if isinstance(response, Mapping):  # botocore keeps the parsed answer here
            bodies.append(cast("Mapping[str, object]", response))
        else:
            found = getattr(response, "headers", None)
            if isinstance(found, Mapping):
                pairs = cast("Mapping[object, object]", found).items()
                known_headers = {**{str(k).lower(): str(v) for k, v in pairs}, **known_headers}
    if isinstance(error, str):
        texts.insert(0, error)
        bodies.append(_embedded(error))
    if status is None:
        status = _status_in([*texts, *(each for each in bodies if isinstance(each, str))])

    codes: set[str] = set()
    numbers: dict[str, int] = {}
    said: list[str] = []
    for each in bodies:
        for value in _parsed(each):
            if isinstance(value, str):
                said.append(plain(value))
                _walk(_embedded(value), codes, [], numbers, depth=0)  # its words are in the text already
            else:
                _walk(value, codes, said, numbers, depth=0)
    heard, raised = (" | ".join(dict.fromkeys(t for t in part if t.strip())) for part in (said, texts))
    return Evidence(
        status,
        frozenset(codes),
        (heard or raised)[:MAX_TEXT],
        raised[:MAX_TEXT] if heard else "",
        heard or raised,
        frozenset(names),
        known_headers,
        numbers,
    )


def plain(text: str) -> str:
    """The text without HTML markup and runs of blanks."""
    text = text[:MAX_TEXT]
    if text.lstrip()[:1] == "<":
        text = _TAG.sub(" ", text)
    return " ".join(text.split())


def _chain(error: BaseException | str | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status_of(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        for attribute in ("status_code", "status", "http_status"):
            value = getattr(holder, attribute, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


# The OpenAI SDK: "Error code: 429 - {...}"; others: "status code 503", "HTTP 502".
_STATUS = re.compile(r"\b(?:error code|status(?: code)?|http(?:/[\d.]+)?)[ :=]{1,3}([45]\d\d)\b", re.IGNORECASE)


def _status_in(texts: list[str]) -> int | None:
    found = next((match for text in texts if (match := _STATUS.search(text[:MAX_TEXT]))), None)
    return None if found is None else int(found.group(1))


def _embedded(text: str) -> object:
    """The JSON inside a text: SDKs and gateways put the answer behind a few words of their own."""
    start, end = text.find("{", 1), text.rfind("}")
    if start < 0 or end < start or len(text) > MAX_TEXT:
        return None
    try:
        return json.JSONDecoder().raw_decode(text[start:])[0]
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text[start : end + 1])  # the OpenAI SDK prints a dict, which is no JSON
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _parsed(body: object) -> Iterator[Any]:  # Any: JSON of an unknown server
    """The JSON values in a body: an object, a text of one, the events of a stream; else the text."""
    if body is None:
        return
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if not isinstance(body, str):
        yield body
        return
    text = body.strip()
    if re.match(r"(data|event|id|:)", text) and "data:" in text:
        for line in text.splitlines():
            if line.startswith("data:") and "error" in line:
                yield from _parsed(line.removeprefix("data:"))
        return
    if text[:1] in "{[" and len(text) <= 10 * MAX_TEXT:
        try:
            yield json.loads(text)
            return
        except (ValueError, RecursionError):
            pass
    if text:
        yield text


def _walk(value: object, codes: set[str], said: list[str], numbers: dict[str, int], *, depth: int) -> None:
    """Collect codes, texts and counts from a parsed body, wherever a server put them."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in cast("list[object]", value)[:50]:
            if isinstance(item, str):
                said.append(plain(item))
            else:
                _walk(item, codes, said, numbers, depth=depth + 1)
        return
    if not isinstance(value, Mapping):
        return
    for key, item in list(cast("Mapping[object, object]", value).items())[:100]:
        name = str(key).lower()
        if isinstance(item, bool) or item is None:
            continue
        if name == "estimated_time" and isinstance(item, int | float):  # Hugging Face, while it loads a model
            said.append(f"wait {item}s")
        elif isinstance(item, int):
            numbers.setdefault(name, item)
        elif isinstance(item, str):
            if name in CODE_KEYS:
                codes.add(item.strip().lower())
                if " " in item:
                    said.append(plain(item))
            elif name == "retrydelay":  # google.rpc.RetryInfo
                said.append(f"retry in {item}")
            elif name in TEXT_KEYS:
                # A gateway may pass the inner answer on as a text of JSON.
                for inner in (*_parsed(item), _embedded(item)):
                    if isinstance(inner, str):
                        said.append(plain(inner))
                    else:
                        _walk(inner, codes, said, numbers, depth=depth + 1)
        else:
            _walk(item, codes, said, numbers, depth=depth + 1)
