"""Chats of two: begun, summed up, in a queue."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast  # Any: users' settings

from wherry.compat.autogen.calling import awaited, hop, twin
from wherry.compat.autogen.chat_run import chat_run
from wherry.compat.autogen.console import silenced
from wherry.compat.autogen.exception_utils import InvalidCarryOverTypeError, SenderRequiredError
from wherry.compat.autogen.messages import Dict, content_str
from wherry.compat.autogen.people import People

if TYPE_CHECKING:
    from wherry.compat.autogen.conversable import ConversableAgent

_ABOUT = 2_000


@dataclass
class ChatResult:
    """What came of a chat."""

    chat_id: Any = None
    chat_history: list[Dict] = field(default_factory=list[Any])
    """The messages, as the one who began it has them."""
    summary: Any = ""
    cost: dict[str, Any] = field(default_factory=dict[str, Any])
    """`usage_including_cached_inference` and `usage_excluding_cached_inference`: by model, and `total_cost` in USD."""
    human_input: list[str] = field(default_factory=list[str])


class Chats(People):
    """An agent that begins chats."""

    DEFAULT_SUMMARY_PROMPT = "Summarize the takeaway from the conversation. Do not add any introductory phrases."
    DEFAULT_SUMMARY_METHOD = "last_msg"
    _finished_chats: Any

    def initiate_chat(
        self,
        recipient: Any,
        clear_history: bool = True,
        silent: bool | None = False,
        cache: Any = None,
        max_turns: int | None = None,
        summary_method: str | Callable[..., Any] | None = DEFAULT_SUMMARY_METHOD,
        summary_args: Mapping[str, Any] | None = None,
        message: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Talk with another agent until one of the two says nothing more.

        Args:
            recipient: With whom.
            clear_history: Whether earlier messages between the two are forgotten.
            silent: Whether nothing is printed, by whomever.
            cache: Where answers are kept.
            max_turns: How often each speaks at most.
            summary_method: `"last_msg"`, `"reflection_with_llm"`, a function of (sender, recipient, args), or None.
            summary_args: For it: `summary_prompt`, `summary_role`, or what the function takes.
            message: What is said first: a text, a dict, or a function of (sender, recipient, kwargs); None: a person is
                asked.
            kwargs: `carryover`: a text, or several, put behind the first message; others are for functions.

        Raises:
            RuntimeError: reply functions are coroutines, and this is not `a_initiate_chat`.
            WherryError: a model failed, or a limit is reached.
        """
        two = (self, recipient)
        for agent in two:
            agent._raise_exception_on_async_reply_functions()
        before = [agent.client_cache for agent in two]
        args = dict(summary_args or {})
        about = message if isinstance(message, str) else f"a chat with {recipient.name}"
        owner = self._owner
        try:
            for agent in two:
                agent.client_cache = cache
            run = chat_run(_name_of(self), about[:_ABOUT], store=owner.get("store"), limits=owner.get("limits"))
            with silenced(silent), run as chat:
                self._talk(recipient, clear_history, silent, max_turns, message, kwargs)
                summary = self._summarize_chat(summary_method, args, recipient, cache)
                chat.output = str(summary)
        finally:
            for agent, old in zip(two, before, strict=True):
                agent.client_cache = old
        history = self.chat_messages[recipient]
        return ChatResult(kwargs.get("chat_id"), history, summary, gather_usage_summary(two), self._human_input)

    def _talk(
        self, recipient: Any, clear: bool, silent: bool | None, max_turns: int | None, message: Any, kwargs: Dict
    ) -> None:
        self._prepare_chat(recipient, clear, reply_at_receive=not isinstance(max_turns, int))
        first = self._first(recipient, message, kwargs)
        if not isinstance(max_turns, int):
            hop(self, "send", first, recipient, silent=silent)
            return
        for turn in range(max_turns):
            if turn:
                first = hop(self, "generate_reply", messages=self.chat_messages[recipient], sender=recipient)
            if first is None:
                return
            hop(self, "send", first, recipient, request_reply=True, silent=silent)

    def _first(self, recipient: Any, message: Any, kwargs: Dict) -> Any:
        if callable(message):
            return awaited(message(self, recipient, kwargs))
        return hop(self, "generate_init_message", message, **kwargs)

    def _prepare_chat(
        self, recipient: Any, clear_history: bool, prepare_recipient: bool = True, reply_at_receive: bool = True
    ) -> None:
        self.reset_consecutive_auto_reply_counter(recipient)
        self.reply_at_receive[recipient] = reply_at_receive
        if clear_history:
            self.clear_history(recipient)
            self._human_input = []
        if prepare_recipient:
            recipient._prepare_chat(self, clear_history, False, reply_at_receive)

    def clear_history(self, recipient: Any = None, nr_messages_to_preserve: int | None = None) -> None:
        """Forget messages, with everybody or with one; of all conversations the newest may be kept."""
        if recipient is not None:
            self._oai_messages[recipient].clear()
        elif nr_messages_to_preserve:
            for other, said in self._oai_messages.items():
                most = nr_messages_to_preserve
                if len(said) >= most and "tool_responses" in said[-most]:
                    most += 1  # results without their calls are refused
                self._oai_messages[other] = said[-most:]
        else:
            self._oai_messages.clear()

    def generate_init_message(self, message: Any, **kwargs: Any) -> Any:
        """What is said first, with what is carried over from earlier chats."""
        if message is None:
            message = hop(self, "get_human_input", ">")
        carried = kwargs.get("carryover")
        if not carried:
            return message
        if isinstance(carried, str):
            context = carried
        elif isinstance(carried, list):
            context = "\n".join(map(_item, cast("list[Any]", carried)))
        else:
            raise InvalidCarryOverTypeError
        tail = f"\nContext: \n{context}"
        if isinstance(message, str):
            return message + tail
        content = message.get("content")
        if isinstance(content, list):
            return {**message, "content": [{"type": "text", "text": tail}, *cast("list[Any]", content)]}
        return {**message, "content": (content or "") + tail}

    # -- summaries -----------------------------------------------------------------------------------------------------

    def _summarize_chat(self, method: Any, args: Dict, recipient: Any, cache: Any) -> Any:
        if method is None:
            return ""
        args.setdefault("cache", cache)
        if method == "reflection_with_llm":
            return self._reflection(args, recipient)
        if method == "last_msg":
            return _last_said(self, recipient)
        if not callable(method):
            raise ValueError(  # noqa: TRY004 - programs catch it
                "If not None, the summary_method must be a string from [`reflection_with_llm`, `last_msg`] or a "
                "callable."
            )
        summary = awaited(method(self, recipient, args))
        return _item(summary)

    def _reflection(self, args: Dict, recipient: Any) -> str:
        prompt, role = args.get("summary_prompt") or self.DEFAULT_SUMMARY_PROMPT, args.get("summary_role") or "system"
        if not isinstance(prompt, str):
            raise ValueError("The summary_prompt must be a string.")  # noqa: TRY004 - programs catch it
        if not isinstance(role, str):
            raise ValueError("The summary_role in summary_arg must be a string.")  # noqa: TRY004 - programs catch it
        messages = [*recipient.chat_messages_for_summary(self), {"role": role, "content": prompt}]
        client = recipient.client or self.client
        if client is None:
            warnings.warn(
                "Cannot extract summary using reflection_with_llm: neither agent has an llm_config. "
                "Using an empty str as summary.", UserWarning, stacklevel=5
            )  # fmt: skip
            return ""
        return client.ask(messages, cache=args.get("cache"), tools=None, functions=None).reply.text

    # -- queues --------------------------------------------------------------------------------------------------------

    def initiate_chats(self, chat_queue: Sequence[Mapping[str, Any]]) -> list[ChatResult]:
        """Chats of this agent, one after the other; each carries over the summaries of those before."""
        self._finished_chats = initiate_chats([{"sender": self, **chat} for chat in chat_queue])
        return self._finished_chats

    async def a_initiate_chats(self, chat_queue: Sequence[Mapping[str, Any]]) -> dict[Any, ChatResult]:
        """Chats of this agent, at the same time where none of their `prerequisites` (ids of others) is unfinished."""
        self._finished_chats = await a_initiate_chats([{"sender": self, **chat} for chat in chat_queue])
        return self._finished_chats

    def get_chat_results(self, chat_index: int | None = None) -> Any:
        """What came of the chats that this agent began last."""
        return self._finished_chats if chat_index is None else self._finished_chats[chat_index]

    a_initiate_chat = twin(initiate_chat)
    a_generate_init_message = twin(generate_init_message)


def initiate_chats(chat_queue: Sequence[Mapping[str, Any]]) -> list[ChatResult]:
    """Chats one after the other: dicts of `sender`, `recipient`, and what `initiate_chat` takes.

    The summaries of chats before are carried over, but for those of `finished_chat_indexes_to_exclude_from_carryover`.
    """
    done: list[ChatResult] = []
    for given in chat_queue:
        chat = dict(given)
        left_out = chat.pop("finished_chat_indexes_to_exclude_from_carryover", ())
        carried = _carried(chat.get("carryover")) + [r.summary for n, r in enumerate(done) if n not in left_out]
        chat["carryover"] = carried
        sender: ConversableAgent = _sender_of(chat)
        result = hop(sender, "initiate_chat", **chat)
        done.append(result)
    return done


async def a_initiate_chats(chat_queue: Sequence[Mapping[str, Any]]) -> dict[Any, ChatResult]:
    """`initiate_chats`, each as soon as the chats of its `prerequisites` are done; results by `chat_id`.

    Raises:
        ValueError: a prerequisite is no chat of the queue, or they wait for one another.
    """
    chats = [{"chat_id": number, **chat} for number, chat in enumerate(chat_queue)]
    known = {chat["chat_id"] for chat in chats}
    done: dict[Any, ChatResult] = {}
    waiting = list(chats)
    for chat in chats:
        if unknown := set(chat.get("prerequisites", ())) - known:
            raise ValueError(f"chat {chat['chat_id']} waits for {unknown}, which is no chat of the queue")
    while waiting:
        ready = [chat for chat in waiting if all(one in done for one in chat.get("prerequisites", ()))]
        if not ready:
            raise ValueError(f"the chats {[chat['chat_id'] for chat in waiting]} wait for one another")
        waiting = [chat for chat in waiting if chat not in ready]
        results = await asyncio.gather(*(_one(chat, done) for chat in ready))
        done.update({chat["chat_id"]: result for chat, result in zip(ready, results, strict=True)})
    return done


async def _one(given: Mapping[str, Any], done: Mapping[Any, ChatResult]) -> ChatResult:
    chat = dict(given)
    left_out = chat.pop("finished_chat_indexes_to_exclude_from_carryover", ())
    before = [done[one].summary for one in chat.pop("prerequisites", ()) if one not in left_out]
    chat["carryover"] = _carried(chat.get("carryover")) + before
    sender: ConversableAgent = _sender_of(chat)
    return await sender.a_initiate_chat(**chat)


def _sender_of(chat: Dict) -> Any:
    if chat.get("sender") is None:
        raise SenderRequiredError("a chat of the queue has no sender: who begins it?")
    return chat.pop("sender")


def _carried(carryover: Any) -> list[Any]:
    if not carryover:
        return []
    return [carryover] if isinstance(carryover, str) else [*carryover]


def _item(item: Any) -> str:
    if isinstance(item, dict):
        return content_str(cast("Dict", item).get("content"))
    return item if isinstance(item, str) else str(item)


def _last_said(sender: Any, recipient: Any) -> str:
    message = recipient.chat_messages.get(sender) and recipient.last_message(sender)
    content = message.get("content") if message else None
    return content_str(content).replace("TERMINATE", "") if isinstance(content, str | list) else ""


def _name_of(agent: Any) -> str:
    from wherry.compat.autogen.asking import identifier

    return identifier(agent.name)


def gather_usage_summary(agents: Sequence[Any]) -> dict[str, Dict]:
    """What several agents' models used, all together."""
    clients = list({id(agent.client): agent.client for agent in agents if getattr(agent, "client", None)}.values())
    return {
        "usage_including_cached_inference": _summed([client.total_usage_summary for client in clients]),
        "usage_excluding_cached_inference": _summed([client.actual_usage_summary for client in clients]),
    }


def _summed(summaries: Sequence[Dict | None]) -> Dict:
    out: Dict = {"total_cost": 0}
    for summary in summaries:
        for name, used in (summary or {}).items():
            if name == "total_cost":
                out["total_cost"] += used
                continue
            one = out.setdefault(name, dict.fromkeys(used, 0))
            for key, value in used.items():
                one[key] += value
    return out
