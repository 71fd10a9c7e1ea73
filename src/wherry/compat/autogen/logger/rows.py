"""What is logged, as rows of tables."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast  # Any: what programs log

from wherry.compat.autogen.logger.base_logger import BaseLogger
from wherry.compat.autogen.logger.logger_utils import get_current_ts

_SECRETS = frozenset({
    "api_key", "organization", "base_url", "azure_endpoint", "azure_ad_token", "azure_ad_token_provider", "self",
    "__class__",
})  # fmt: skip


class Rows(BaseLogger):
    """A logger that writes rows."""

    @abstractmethod
    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row. What cannot be written stops no chat."""

    def log_chat_completion(
        self, invocation_id: Any, client_id: int, wrapper_id: int, source: Any, request: Any, response: Any,
        is_cached: int, cost: float, start_time: str,
    ) -> None:  # fmt: skip
        said = {"response": response} if response is None or isinstance(response, str) else response
        row = {"invocation_id": str(invocation_id), "client_id": client_id, "wrapper_id": wrapper_id}
        row |= {"source_name": _name(source), "request": _text(request), "response": _text(said)}
        row |= {"is_cached": is_cached, "cost": cost, "start_time": start_time, "end_time": get_current_ts()}
        self.write("chat_completions", row)

    def log_new_agent(self, agent: Any, init_args: Mapping[str, Any]) -> None:
        client: object = getattr(agent, "client", None)
        row = {"agent_id": id(agent), "wrapper_id": "" if client is None else id(client), "name": _name(agent)}
        row |= {"class": type(agent).__name__, "init_args": _text(_without_secrets(init_args))}
        self.write("agents", {**row, "timestamp": get_current_ts()})

    def log_event(self, source: Any, name: str, **kwargs: Any) -> None:
        row = {"event_name": name, "source_id": id(source), "source_name": _name(source), "json_state": _text(kwargs)}
        if not isinstance(source, str):
            row |= {"agent_module": type(source).__module__, "agent_class_name": type(source).__name__}
        self.write("events", {**row, "timestamp": get_current_ts()})

    def log_new_wrapper(self, wrapper: Any, init_args: Mapping[str, Any]) -> None:
        args = _text(_without_secrets(init_args))
        self.write("oai_wrappers", {"wrapper_id": id(wrapper), "init_args": args, "timestamp": get_current_ts()})

    def log_new_client(self, client: Any, wrapper: Any, init_args: Mapping[str, Any]) -> None:
        row = {"client_id": id(client), "wrapper_id": id(wrapper), "class": type(client).__name__}
        args = _text(_without_secrets(init_args))
        self.write("oai_clients", {**row, "init_args": args, "timestamp": get_current_ts()})

    def log_function_use(self, source: Any, function: Any, args: Any, returns: Any) -> None:
        name = function if isinstance(function, str) else getattr(function, "__name__", str(function))
        row = {"source_id": id(source), "source_name": _name(source), "function_name": name}
        row |= {"args": _text(args), "returns": _text(returns), "timestamp": get_current_ts()}
        self.write("function_calls", row)


def _name(source: Any) -> str:
    return source if isinstance(source, str) else str(getattr(source, "name", ""))


def _text(value: Any) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    dump: Callable[[], Any] | None = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump()
    return f"<<non-serializable: {type(value).__qualname__}>>"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = cast("Mapping[Any, Any]", value)
        return {key: _without_secrets(one) for key, one in found.items() if key not in _SECRETS}
    if isinstance(value, list | tuple):
        several: list[Any] = [*value]
        return [_without_secrets(one) for one in several]
    return value
