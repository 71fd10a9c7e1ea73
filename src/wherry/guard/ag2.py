"""The context bound for classic agents: AG2, the package `autogen` of PyPI, and what came before it.

All questions of a `ConversableAgent` to a model, replies and summaries of chats alike, pass one method, with the
messages that are about to be sent, system prompt and all. There they are fitted. Nothing of AG2 is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from wherry.context import ContextBudget
from wherry.errors import ConfigurationError
from wherry.guard.fitting import CounterLike, Fitted, Fitter
from wherry.guard.pieces import Dict, as_dict

Guarded = TypeVar("Guarded")

_ASK = "_generate_oai_reply_from_client"
_SELECT = "_create_internal_agents"
_OUTPUT = ("max_tokens", "max_completion_tokens")


def guard(
    agent: Guarded,
    budget: ContextBudget | int,
    *,
    counter: CounterLike | None = None,
    strict: bool = False,
    on_fit: Callable[[Fitted], object] | None = None,
) -> Guarded:
    """Bound all that an agent sends to its models. Its own chat messages stay as they are.

    A group chat's manager, or the group chat itself, has its agents guarded and those that choose the next speaker.
    Tools that are registered later are counted as well.

    Args:
        agent: A `ConversableAgent`, a `GroupChatManager` or a `GroupChat`.
        budget: A `ContextBudget`, or the window in tokens.
        counter: As `Fitter` takes it; without it tokens are estimated from above.
        strict: Whether messages are put as the strictest servers take them, as `Fitter` has it.
        on_fit: Called with what was made of each request.

    Returns:
        The same agent.

    Raises:
        ConfigurationError: It is none of these.
        ContextBudgetError: Later, by the agent: a request cannot be made to fit.
    """
    found: Any = agent  # Any: AG2 is no dependency, and its methods are not typed
    chat = found if hasattr(found, _SELECT) else getattr(found, "groupchat", None)
    if chat is None and not hasattr(found, _ASK):
        raise ConfigurationError(
            f"{type(agent).__name__} is no classic agent: it has no {_ASK}",
            hint="give a ConversableAgent, a GroupChatManager or a GroupChat; AutoGen 0.4 has wherry.guard.autogen",
        )

    def bound(one: Any) -> None:
        if hasattr(one, _ASK):
            _bind(one, Fitter(budget, counter, strict=strict), on_fit)

    bound(found)
    if chat is not None:
        for member in chat.agents:
            bound(member)
        for one in (chat, *_copies(found)):
            _bind_selectors(one, bound)
    return agent


def _copies(manager: Any) -> list[Any]:
    """A manager runs copies of its group chat, which were made as it was."""
    entries: Sequence[Any] = getattr(manager, "_reply_func_list", ())
    configs = [as_dict(entry).get(key) for entry in entries for key in ("config", "init_config")]
    return [config for config in configs if hasattr(config, _SELECT)]


class _FittingClient:
    """A client of AG2's whose `create` is given what fits; all else is the client's own."""

    def __init__(self, client: Any, fitter: Fitter, on_fit: Callable[[Fitted], object] | None) -> None:
        self._client = client
        self._fitter = fitter
        self._on_fit = on_fit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create(self, **config: Any) -> Any:
        settings = [as_dict(one) for one in getattr(self._client, "_config_list", ())]
        tools = _tools([config, *settings])
        asked = [value for one in (config, *settings) for key in _OUTPUT if isinstance(value := one.get(key), int)]
        fitted = self._fitter.fit(
            config["messages"], tools=tools, style="openai", max_output=max(asked) if asked else None
        )
        if self._on_fit is not None:
            self._on_fit(fitted)
        return self._client.create(**{**config, "messages": fitted.messages})


def _bind(agent: Any, fitter: Fitter, on_fit: Callable[[Fitted], object] | None) -> None:
    # The class's own method: an agent that is guarded again is guarded once, with the newer budget.
    ask = getattr(agent.__class__, _ASK)

    def asking(llm_client: Any, *rest: Any, **more: Any) -> Any:
        return ask(agent, _FittingClient(llm_client, fitter, on_fit), *rest, **more)

    setattr(agent, _ASK, asking)


def _bind_selectors(chat: Any, bound: Callable[[Any], None]) -> None:
    """Those that choose the next speaker are made anew for each choice."""
    make = getattr(chat.__class__, _SELECT, None)
    if make is None:
        return

    def making(*args: Any, **more: Any) -> Any:
        made = make(chat, *args, **more)
        for selector in made:
            bound(selector)
        return made

    setattr(chat, _SELECT, making)


def _tools(configs: Sequence[Dict]) -> list[Dict]:
    """The tools of a request, of whichever model it goes to, each once."""
    found: dict[str, Dict] = {}
    for config in configs:
        for tool in (*(config.get("tools") or ()), *(config.get("functions") or ())):
            raw = as_dict(tool)
            function = as_dict(raw.get("function")) or raw
            if function:
                found[str(function.get("name"))] = raw
    return list(found.values())
