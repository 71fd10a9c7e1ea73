"""`OpenAIWrapper`: what an agent asks, and what that took."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast  # Any: settings and replies are of any kind

from wherry.compat.autogen.asking import Answered, Asker
from wherry.compat.autogen.cache import Cache, with_seed
from wherry.compat.autogen.chat_run import current
from wherry.compat.autogen.console import say
from wherry.compat.autogen.messages import Dict, normalized_name, unrolled
from wherry.compat.autogen.settings import model_of, validated
from wherry.messages import ToolCall, ToolSchema, Usage
from wherry.models import Model

RAW = "__raw__"


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
        self.actual_usage_summary: Dict | None = None
        self.total_usage_summary: Dict | None = None

    @cached_property
    def asker(self) -> Asker:
        """Made at the first question: an agent that is never asked needs no key."""
        own = dict(self._owner)
        return Asker(str(own.pop("name", "client")), model_of(self._config), **own)

    def take_over(self, other: OpenAIWrapper) -> None:
        """Ask the models of another one, which differs in its tools alone, and go on counting."""
        if "asker" in other.__dict__:
            self.__dict__["asker"] = other.asker
        self._models = other._models
        self.total_usage_summary, self.actual_usage_summary = other.total_usage_summary, other.actual_usage_summary

    def create(self, *, messages: Sequence[Dict], cache: Cache | None = None, **config: Any) -> SimpleNamespace:
        """A reply, as the openai package has it.

        Args:
            messages: The conversation.
            cache: Where answers are kept.
            config: `tools`, `functions`, `max_tokens`, `response_format`, `cache_seed`; others are the model's own.
        """
        answered = self.ask(messages, cache=cache, **config)
        said = _message(answered)
        usage = SimpleNamespace(
            prompt_tokens=answered.usage.input_tokens,
            completion_tokens=answered.usage.output_tokens,
            total_tokens=answered.usage.input_tokens + answered.usage.output_tokens,
        )
        choice = SimpleNamespace(index=0, message=said, finish_reason=answered.reply.finish_reason or "stop")
        return SimpleNamespace(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            model=answered.model,
            choices=[choice],
            usage=usage,
            cost=float(answered.usage.usd or 0),
        )

    @classmethod
    def extract_text_or_completion_object(cls, response: Any) -> list[Any]:
        """The texts of a reply's choices; the message where it has calls."""
        return [
            choice.message if choice.message.tool_calls else choice.message.content or "" for choice in response.choices
        ]

    def ask(self, messages: Sequence[Dict], *, cache: Cache | None = None, **config: Any) -> Answered:
        """The reply to a conversation of any length."""
        settings = {**self._config, **config}
        tools = [*_tools(settings), *(t for c in self._config_list for t in _tools(c))]
        schemas = {schema.name: schema for schema in tools}
        seed = cache.seed if cache is not None else settings.get("cache_seed")
        most = config.get("max_tokens")
        format = settings.get("response_format") or self._config_list[0].get("response_format")
        answered = self.asker.ask(
            unrolled(messages),
            [*schemas.values()],
            model=None if seed is None else self._seeded(seed),
            parent=current(),
            response_format=schema_of(format),
            max_output=most if isinstance(most, int) else None,
        )
        self._count(answered)
        return answered

    def _seeded(self, seed: str | int) -> Model:
        if seed not in self._models:
            self._models[seed] = with_seed(self.asker.model, seed)
        return self._models[seed]

    # -- what was used -------------------------------------------------------------------------------------------------

    def _count(self, answered: Answered) -> None:
        self.total_usage_summary = _added(self.total_usage_summary, answered.model, answered.usage)
        if not answered.reply.cached:
            self.actual_usage_summary = _added(self.actual_usage_summary, answered.model, answered.usage)

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


def _message(answered: Answered) -> SimpleNamespace:
    calls = [SimpleNamespace(**{**one, "function": SimpleNamespace(**one["function"])}) for one in calls_of(answered)]
    return SimpleNamespace(
        role="assistant", content=answered.reply.text or None, tool_calls=calls or None, function_call=None
    )


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
