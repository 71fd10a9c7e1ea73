"""Model clients of a program's own: `model_client_cls` in a `config_list`, and `register_model_client`.

Such a client is a model like any other here: what it is given fits, it is the turn of the next one when its server
fails, and what it answers is in the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from decimal import Decimal
from typing import Any, Protocol, cast  # Any: what a program's own client takes and gives

from wherry.compat.autogen.messages import Dict
from wherry.messages import Usage
from wherry.models import Model, ModelDelta, ModelProfile, ModelReply, ModelRequest
from wherry.models.chat_completions import read_reply, request_body
from wherry.models.pricing import Price
from wherry.tools.threads import run_in_thread

_NOT_SENT = frozenset({"agent", "cache", "cache_seed", "filter_func", "allow_format_str_template", "context",
                       "api_version", "api_type", "tags", "price", "window"})  # fmt: skip
_MAX_OUTPUT = ("max_tokens", "max_completion_tokens")
_OUTPUT = 1_024


class ModelClient(Protocol):
    """What a client has to have; it is made as `cls(config, **kwargs)`, `config` being its entry of the `config_list`.

    * `create(params)` gives a response with `choices`, each with a `message` that has `content`, and `model`.
    * `message_retrieval(response)` gives the texts in it, or its messages.
    * `cost(response)` gives US dollars.
    * `get_usage(response)` gives a dict of `prompt_tokens`, `completion_tokens`, `total_tokens`, `cost`, `model`.
    """

    RESPONSE_USAGE_KEYS: Sequence[str] = ("prompt_tokens", "completion_tokens", "total_tokens", "cost", "model")

    def create(self, params: Dict) -> Any: ...

    def message_retrieval(self, response: Any) -> list[Any]: ...

    def cost(self, response: Any) -> float: ...

    @staticmethod
    def get_usage(response: Any) -> Dict: ...


answers: ContextVar[list[Any] | None] = ContextVar("wherry_autogen_answers", default=None)
"""Where what such clients gave or raised is left, for who wants it as it is."""


class ClientModel:
    """A program's own client as a model of wherry's."""

    def __init__(self, client: ModelClient, config: Mapping[str, Any]) -> None:
        self._client = client
        self._config = {key: value for key, value in config.items() if key not in _NOT_SENT and value is not None}
        most = next((config[key] for key in _MAX_OUTPUT if config.get(key)), _OUTPUT)
        name = str(config.get("model") or type(client).__name__)
        self._limited = [key for key in _MAX_OUTPUT if config.get(key)]
        self._profile = ModelProfile(
            name,
            window=config.get("window"),
            max_output=most,
            images=True,
            backend=f"client:{type(client).__name__}",
            price_key=price_of(config),
        )

    @property
    def client(self) -> ModelClient:
        """The program's."""
        return self._client

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        # A limit of output is sent where the program set one, as it would have been.
        limit = dict.fromkeys(self._limited, request.max_output or self._profile.max_output)
        params = request_body(request, model=self._profile.name, settings=self._config, limit=limit)
        params["model"] = self._config.get("model", self._profile.name)
        kept = answers.get()
        try:
            done = await run_in_thread(lambda: self._asked(params), timeout=None)
        except Exception as error:
            if kept is not None:
                kept.append(error)
            raise
        reply, response = cast("tuple[ModelReply, Any]", done)
        if kept is not None:
            kept.append((self._client, response))
        return reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        reply = await self.complete(request)
        yield ModelDelta(reply.text)
        yield ModelDelta(reply=reply)

    def _asked(self, params: Dict) -> tuple[ModelReply, Any]:
        response = self._client.create(params)
        cost = float(self._client.cost(response) or 0)
        if getattr(response, "cost", None) is None:
            response.cost = cost
        used: Mapping[str, Any] = self._client.get_usage(response) or {}
        usage = Usage(
            requests=1,
            input_tokens=int(used.get("prompt_tokens") or 0),
            output_tokens=int(used.get("completion_tokens") or 0),
            usd=Decimal(str(cost)),
        )
        retrieved = self._client.message_retrieval(response)
        reply = read_reply({"choices": [{"message": _message(retrieved)}]})
        choices: Sequence[Any] = getattr(response, "choices", None) or ()
        finished = getattr(choices[0], "finish_reason", None) if choices else None
        reason = finished if isinstance(finished, str) else reply.finish_reason
        model = getattr(response, "model", None)
        return replace(
            reply, usage=usage, finish_reason=reason, model=model if isinstance(model, str) else None
        ), response


def _message(retrieved: Sequence[Any]) -> Dict:
    """The first text or message of a response, as a server would send it."""
    first = retrieved[0] if retrieved else ""
    if first is None or isinstance(first, str):
        return {"role": "assistant", "content": first or ""}
    if isinstance(first, Mapping):
        return dict(cast("Mapping[str, Any]", first))
    calls: Iterable[Any] = getattr(first, "tool_calls", None) or ()
    return {
        "role": "assistant",
        "content": getattr(first, "content", None) or "",
        "tool_calls": [_call(call) for call in calls],
    }


def _call(call: Any) -> Dict:
    if isinstance(call, Mapping):
        return dict(cast("Mapping[str, Any]", call))
    function = call.function
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": function.name, "arguments": function.arguments},
    }


class ModelClients:
    """The clients of one `config_list`, each made when its class is registered."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        self._configs = configs
        self._made: dict[int, ClientModel] = {}

    def register(self, cls: type[Any], kwargs: Mapping[str, Any]) -> None:
        """Make the client of the first entry that names this class and has none.

        Raises:
            ValueError: no entry names it.
        """
        named = [n for n, config in enumerate(self._configs) if _named(config) == cls.__name__]
        if not named:
            raise ValueError(
                f'Model client "{cls.__name__}" is being registered but was not found in the config_list. Please make '
                f'sure to include an entry in the config_list with "model_client_cls": "{cls.__name__}"'
            )
        for number in named:
            if number not in self._made:
                config = self._configs[number]
                self._made[number] = ClientModel(cls(dict(config), **kwargs), config)
                return

    def missing(self) -> list[str]:
        """The classes that entries name and nobody registered."""
        return [name for n, config in enumerate(self._configs) if (name := _named(config)) and n not in self._made]

    def model(self, number: int) -> Model | None:
        """The model of an entry that has a client; None for any other.

        Raises:
            RuntimeError: its class was not registered.
        """
        if _named(self._configs[number]) and number not in self._made:
            raise RuntimeError(
                f"Model client(s) {self.missing()} are not activated. Please register the custom model clients using "
                "`register_model_client` or filter them out form the config list."
            )
        return self._made.get(number)

    def only(self, number: int) -> ModelClients:
        """Those of one entry alone."""
        one = ModelClients([self._configs[number]])
        if number in self._made:
            one._made = {0: self._made[number]}
        return one

    def take_over(self, other: ModelClients) -> None:
        """Have the clients that another has made for the same entries."""
        self._made = other._made


def price_of(config: Mapping[str, Any]) -> Price | None:
    """What `price` says: US dollars for a thousand tokens in and out, or one number for both."""
    given = config.get("price")
    if given is None:
        return None
    into, out = (given, given) if isinstance(given, int | float) else given
    return Price(input=float(into) * 1_000, output=float(out) * 1_000)


def _named(config: Mapping[str, Any]) -> str:
    given = config.get("model_client_cls")
    return given if isinstance(given, str) else getattr(given, "__name__", "") if given else ""
