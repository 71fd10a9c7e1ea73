"""`OpenAIWrapper`: what an agent asks, and what that took."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import Any, cast  # Any: settings and replies are of any kind

from wherry.compat.autogen import runtime_logging
from wherry.compat.autogen.asking import Answered, Asker
from wherry.compat.autogen.cache.cache import Cache, with_seed
from wherry.compat.autogen.chat_run import current
from wherry.compat.autogen.console import say
from wherry.compat.autogen.logger.logger_utils import get_current_ts
from wherry.compat.autogen.messages import Dict, normalized_name, unrolled
from wherry.compat.autogen.model_clients import ModelClient, ModelClients, answers
from wherry.compat.autogen.responses import completion
from wherry.compat.autogen.settings import merged, model_of, validated
from wherry.errors import ModelError
from wherry.messages import ToolCall, ToolSchema, Usage
from wherry.models import Model

RAW = "__raw__"
_NOT_REGISTERED = (
    "Model client(s) {} are not activated. Please register the custom model clients using `register_model_client` or "
    "filter them out form the config list."
)
__all__ = ["ModelClient", "OpenAIWrapper"]


class OpenAIWrapper:
    """Models behind one another, and the sum of what they used.

    Args:
        config_list: The models.
        base_config: What holds for all of them.
        options: `name`, `store`, `context`, `limits` as of an agent.
    """

    def __init__(
        self,
        *,
        config_list: Sequence[Mapping[str, Any]] | None = None,
        owner: Mapping[str, Any] | None = None,
        **base_config: Any,
    ) -> None:
        config = validated({**base_config, **({} if config_list is None else {"config_list": config_list})})
        if config is None:
            raise ValueError("give a config_list, or a model")
        self._config = config
        self._config_list = config["config_list"]
        self._owner = dict(owner or {})
        self._models: dict[str | int, Model] = {}
        self._clients = ModelClients(merged(config))
        self._single: dict[int, OpenAIWrapper] = {}
        if runtime_logging.logging_enabled():
            shared = {key: value for key, value in config.items() if key != "config_list"}
            runtime_logging.log_new_wrapper(self, {"config_list": config["config_list"], "base_config": shared})
        self._whole: OpenAIWrapper | None = None
        self.actual_usage_summary: Dict | None = None
        self.total_usage_summary: Dict | None = None

    @cached_property
    def asker(self) -> Asker:
        """Made at the first question: an agent that is never asked needs no key."""
        own, model = dict(self._owner), model_of(self._config, self._clients)
        if runtime_logging.logging_enabled():
            runtime_logging.log_new_client(model, self, {"config_list": self._config_list})
        return Asker(str(own.pop("name", "client")), model, **own)

    @property
    def wrapper_id(self) -> int:
        """By which runtime logging knows it."""
        return id(self)

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of a reply that a program has set, for any of the models."""
        given = [one.get("max_tokens") or self._config.get("max_tokens") for one in self._config_list]
        return min((most for most in given if isinstance(most, int)), default=None)

    def register_model_client(self, model_client_cls: type[Any], **kwargs: Any) -> None:
        """Make a client of a program's own class, for the entry of the `config_list` that names it.

        Args:
            model_client_cls: A class as `ModelClient` says, named by `"model_client_cls"` in an entry.
            kwargs: Given to it behind the entry.

        Raises:
            ValueError: no entry names it.
        """
        self._clients.register(model_client_cls, kwargs)
        self.__dict__.pop("asker", None)
        self._models, self._single = {}, {}

    def take_over(self, other: OpenAIWrapper) -> None:
        """Ask the models of another one, which differs in its tools alone, and go on counting."""
        if "asker" in other.__dict__:
            self.__dict__["asker"] = other.asker
        self._models = other._models
        self._clients.take_over(other._clients)
        self.total_usage_summary, self.actual_usage_summary = other.total_usage_summary, other.actual_usage_summary

    def create(
        self, *, messages: Sequence[Dict] | None = None, cache: Cache | None = None, **config: Any
    ) -> Any:  # Any: that of a client of the program's own is whatever it is
        """A reply, as the openai package has it; that of a client of the program's own as the client gave it.

        Args:
            messages: The conversation; without it, `prompt` is what the user says.
            cache: Where answers are kept.
            config: `tools`, `functions`, `max_tokens`, `response_format`, `cache_seed`, `context` for templates (with
                `allow_format_str_template`) and functions among the messages, `filter_func` of (context, response);
                others are the model's own.

        Raises:
            RuntimeError: a client of the program's own is not registered.
        """
        if missing := self._clients.missing():
            raise RuntimeError(_NOT_REGISTERED.format(missing))
        context, wanted = config.pop("context", None), config.pop("filter_func", None)
        settings = {**self._config, **config}
        context, wanted = context or settings.get("context"), wanted or settings.get("filter_func")
        if messages is None:
            messages = [{"role": "user", "content": config.pop("prompt")}]
        template = settings.get("allow_format_str_template")
        said = [{**one, "content": self.instantiate(one.get("content"), context, template)} for one in messages]
        if wanted is None or len(self._config_list) == 1:
            response = self._created(said, cache, config)
            response.config_id, response.pass_filter = 0, wanted is None or wanted(context=context, response=response)
            return response
        for number in range(len(self._config_list)):
            response = self._one(number)._created(said, cache, config)
            response.config_id, response.pass_filter = number, wanted(context=context, response=response)
            if response.pass_filter or number == len(self._config_list) - 1:
                return response
        raise AssertionError  # the last one is given in any case

    def _one(self, number: int) -> OpenAIWrapper:
        """One entry of the list alone, counted with the others."""
        if number not in self._single:
            shared = {key: value for key, value in self._config.items() if key != "config_list"}
            one = OpenAIWrapper(config_list=[self._config_list[number]], owner=self._owner, **shared)
            one._clients, one._whole = self._clients.only(number), self
            self._single[number] = one
        return self._single[number]

    def _created(self, messages: Sequence[Dict], cache: Cache | None, config: Dict) -> Any:
        answered = self.ask(messages, cache=cache, **config)
        if answered.response is not None:
            client, response = answered.response
            response.message_retrieval_function = client.message_retrieval
            return response
        return completion(answered, calls_of(answered), float(_cost(answered)))

    @classmethod
    def extract_text_or_completion_object(cls, response: Any) -> list[Any]:
        """The texts of a reply's choices; the message where it has calls."""
        if (retrieve := getattr(response, "message_retrieval_function", None)) is not None:
            return retrieve(response)
        return [
            choice.message if choice.message.tool_calls else choice.message.content or "" for choice in response.choices
        ]

    @classmethod
    def instantiate(cls, template: Any, context: Mapping[str, Any] | None = None, format: bool | None = False) -> Any:
        """A text with the context's values in it, where that is wanted; a function's text of the context."""
        if not context or template is None:
            return template
        if isinstance(template, str):
            return template.format(**context) if format else template
        return template(context) if callable(template) else template

    def ask(self, messages: Sequence[Dict], *, cache: Cache | None = None, **config: Any) -> Answered:
        """The reply to a conversation of any length."""
        settings = {**self._config, **config}
        tools = [*_tools(settings), *(t for c in self._config_list for t in _tools(c))]
        schemas = {schema.name: schema for schema in tools}
        seed = cache.seed if cache is not None else settings.get("cache_seed")
        most = config.get("max_tokens")
        format = settings.get("response_format") or self._config_list[0].get("response_format")
        kept: list[Any] = []
        begun = get_current_ts() if runtime_logging.logging_enabled() else ""
        token = answers.set(kept)
        try:
            answered = self.asker.ask(
                unrolled(messages),
                [*schemas.values()],
                model=None if seed is None else self._seeded(seed),
                parent=current(),
                response_format=schema_of(format),
                max_output=most if isinstance(most, int) else None,
            )
        except ModelError as error:
            if kept and isinstance(kept[-1], Exception):
                raise kept[-1] from error  # programs catch what their own clients raise
            raise
        finally:
            answers.reset(token)
        if kept and isinstance(kept[-1], tuple):
            answered = replace(answered, response=kept[-1])
        self._count(answered)
        if runtime_logging.logging_enabled():
            self._log(messages, answered, begun)
        return answered

    def _log(self, messages: Sequence[Dict], answered: Answered, begun: str) -> None:
        runtime_logging.log_chat_completion(
            invocation_id=uuid.uuid4(),
            client_id=id(self.asker.model),
            wrapper_id=id(self),
            agent=str(self._owner.get("name", "")),
            request={"messages": [*messages], "model": answered.model},
            response={
                "model": answered.model,
                "choices": [
                    {"message": {"role": "assistant", "content": answered.reply.text, "tool_calls": calls_of(answered)}}
                ],
                "usage": {
                    "prompt_tokens": answered.usage.input_tokens,
                    "completion_tokens": answered.usage.output_tokens,
                },
            },
            is_cached=int(answered.reply.cached),
            cost=float(_cost(answered)),
            start_time=begun,
        )

    def _seeded(self, seed: str | int) -> Model:
        if seed not in self._models:
            self._models[seed] = with_seed(self.asker.model, seed)
        return self._models[seed]

    # -- what was used -------------------------------------------------------------------------------------------------

    def _count(self, answered: Answered) -> None:
        if self._whole is not None:
            self._whole._count(answered)
        usage = replace(answered.usage, usd=_cost(answered))
        self.total_usage_summary = _added(self.total_usage_summary, answered.model, usage)
        if not answered.reply.cached:
            self.actual_usage_summary = _added(self.actual_usage_summary, answered.model, usage)

    def print_usage_summary(self, mode: Any = ("actual", "total")) -> None:
        """Print what was used."""
        modes = [mode] if isinstance(mode, str) else [*mode]
        for kind in ("actual", "total"):
            if kind not in modes and modes != ["both"]:
                continue
            summary = self.actual_usage_summary if kind == "actual" else self.total_usage_summary
            if summary is None:
                say(f"No {kind} cost incurred.")
                continue
            say(f"Usage summary ({kind}): total cost {summary['total_cost']:.5f}")
            for name, used in summary.items():
                if isinstance(used, dict):
                    say(f"* Model '{name}': {json.dumps(used)}")

    def clear_usage_summary(self) -> None:
        """Count from nothing."""
        self.actual_usage_summary = self.total_usage_summary = None


def _cost(answered: Answered) -> Decimal:
    """US dollars: by the price that is known, else what whoever answered says."""
    said = answered.reply.usage.usd if answered.reply.usage is not None and not answered.reply.cached else None
    usd = answered.usage.usd
    return usd if usd is not None else said if said is not None else Decimal(0)


def _added(summary: Dict | None, model: str, usage: Usage) -> Dict:
    summary = {"total_cost": 0.0} if summary is None else summary
    cost = float(usage.usd or 0)
    summary["total_cost"] += cost
    one = summary.setdefault(model, {"cost": 0.0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    one["cost"] += cost
    one["prompt_tokens"] += usage.input_tokens
    one["completion_tokens"] += usage.output_tokens
    one["total_tokens"] += usage.input_tokens + usage.output_tokens
    return summary


def _tools(config: Mapping[str, Any]) -> list[ToolSchema]:
    out: list[ToolSchema] = []
    for tool in (*(config.get("tools") or ()), *(config.get("functions") or ())):
        function: Mapping[str, Any] = tool.get("function") or tool
        parameters: Dict = function.get("parameters") or {"type": "object", "properties": {}}
        out.append(ToolSchema(function["name"], function.get("description") or "", parameters))
    return out


def schema_of(format: Any) -> Mapping[str, Any] | None:
    """The JSON Schema that `response_format` means: a pydantic model's, or one as OpenAI has it."""
    if format is None:
        return None
    if hasattr(format, "model_json_schema"):
        return format.model_json_schema()
    if isinstance(format, Mapping):
        wrapped: Any = cast("Mapping[str, Any]", format).get("json_schema")
        return wrapped.get("schema", wrapped) if wrapped else {"type": "object"}
    return None


def calls_of(answered: Answered) -> list[Dict]:
    """A reply's calls as dicts."""
    return [
        {"id": call.id, "type": "function", "function": {"name": normalized_name(call.name), "arguments": _text(call)}}
        for call in answered.reply.tool_calls
    ]


def _text(call: ToolCall) -> str:
    """Arguments as the model wrote them, where they are no JSON: who executes the call says what is wrong."""
    raw = call.arguments.get(RAW)
    return raw if isinstance(raw, str) else json.dumps(dict(call.arguments), ensure_ascii=False)
