"""What every agent has: a name, its conversations, messages sent and received, and functions that make replies."""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict, cast  # Any: users' functions and settings

from wherry.compat.autogen import runtime_logging
from wherry.compat.autogen.calling import asynchronous, awaited, check, hop, twin
from wherry.compat.autogen.client import OpenAIWrapper
from wherry.compat.autogen.console import say
from wherry.compat.autogen.conversations import Conversations
from wherry.compat.autogen.messages import Dict, shown, to_dict
from wherry.compat.autogen.settings import validated

Reply: TypeAlias = "str | Dict | None"


class ReplyFunction(TypedDict):
    """One of those that are asked for a reply, in their order."""

    trigger: Any
    reply_func: Callable[..., Any]
    config: Any
    init_config: Any
    reset_config: Callable[..., Any] | None
    ignore_async_in_sync_chat: bool


HOOKS = (
    "process_last_received_message", "process_all_messages_before_reply", "process_message_before_send",
    "update_agent_state", "safeguard_tool_inputs", "safeguard_tool_outputs", "safeguard_llm_inputs",
    "safeguard_llm_outputs", "safeguard_human_inputs",
)  # fmt: skip


@dataclass(slots=True)
class _Post:
    """Replies that are to be sent once the one who replied has returned: a long chat needs no deep stack."""

    letters: list[tuple[Core, Any, Core, bool | None]] = field(default_factory=list[Any])
    delivering: bool = False


_post: ContextVar[_Post | None] = ContextVar("wherry_autogen_post", default=None)


class Core(Conversations):
    """An agent that talks, as far as talking goes."""

    DEFAULT_CONFIG: Any = False
    MAX_CONSECUTIVE_AUTO_REPLY = 100
    llm_config: Any

    def __init__(
        self,
        name: str,
        system_message: str | list[Any] | None,
        *,
        llm_config: Any,
        default_auto_reply: Reply,
        description: str | None,
        silent: bool | None,
        owner: dict[str, Any],
    ) -> None:
        self._name = name
        self._oai_messages: defaultdict[Any, list[Dict]] = defaultdict(list)
        self._oai_system_message: list[Dict] = [{"content": system_message, "role": "system"}]
        self._description = description if description is not None else str(system_message or "")
        self.silent = silent
        self._default_auto_reply = default_auto_reply
        self._human_input: list[str] = []
        self.reply_at_receive: defaultdict[Any, bool] = defaultdict(bool)
        self.client_cache: Any = None
        self._owner: dict[str, Any] = {"name": name, **owner}
        if llm_config is None:
            llm_config = self.DEFAULT_CONFIG if self.DEFAULT_CONFIG else None
        config = validated(copy.copy(llm_config))
        self.llm_config = False if config is None else config
        self.client: OpenAIWrapper | None = None if config is None else OpenAIWrapper(owner=self._owner, **config)
        self._reply_func_list: list[ReplyFunction] = []
        self.hook_lists: dict[str, list[Callable[..., Any]]] = {name: [] for name in HOOKS}
        if runtime_logging.logging_enabled():
            told = {"name": name, "system_message": system_message, "llm_config": self.llm_config}
            runtime_logging.log_new_agent(self, {**told, "description": description})

    # -- talking -------------------------------------------------------------------------------------------------------

    def _silent(self, silent: bool | None) -> bool:
        return bool(self.silent if self.silent is not None else silent)

    def send(
        self, message: Any, recipient: Any, request_reply: bool | None = None, silent: bool | None = False
    ) -> None:
        """Send a message: it is in both agents' conversations then, and the other one may reply.

        Args:
            message: A text, or a dict with `content`, `tool_calls` or `function_call`.
            recipient: To whom.
            request_reply: Whether a reply is wanted; None: as the chat that is under way has it.
            silent: Whether nothing is printed.

        Raises:
            ValueError: the message says nothing and calls nothing.
        """
        check()
        post = _post.get()
        delivering = post is not None and post.delivering
        if post is not None:
            post.delivering = False
        for hook in self.hook_lists["process_message_before_send"]:
            message = hook(sender=self, message=message, recipient=recipient, silent=self._silent(silent))
        if not self._append_oai_message(message, "assistant", recipient, is_sending=True):
            raise ValueError(_NO_MESSAGE)
        if delivering:
            hop(recipient, "receive", message, self, request_reply, silent)
            return
        post = _Post()
        token = _post.set(post)
        try:
            hop(recipient, "receive", message, self, request_reply, silent)
            while post.letters:
                author, reply, to, silent = post.letters.pop()
                post.delivering = True
                hop(author, "send", reply, to, silent=silent)
        finally:
            _post.reset(token)

    def receive(
        self, message: Any, sender: Any, request_reply: bool | None = None, silent: bool | None = False
    ) -> None:
        """Take a message, and reply if that is wanted.

        Raises:
            ValueError: the message says nothing and calls nothing.
        """
        self._process_received_message(message, sender, silent)
        if request_reply is False or (request_reply is None and self.reply_at_receive[sender] is False):
            return
        post = _post.get()
        token = _post.set(None)  # what is sent while a reply is made is another exchange
        try:
            reply = hop(self, "generate_reply", messages=self.chat_messages[sender], sender=sender)
        finally:
            _post.reset(token)
        if reply is None:
            return
        if post is None:
            hop(self, "send", reply, sender, silent=silent)
        else:
            post.letters.append((self, reply, sender, silent))

    def _process_received_message(self, message: Any, sender: Any, silent: bool | None) -> None:
        """Keep what was received, and show it. Programs have this method to see what is said as it is said."""
        valid = self._append_oai_message(message, "user", sender, is_sending=False)
        if runtime_logging.logging_enabled():
            told = {"message": to_dict(message), "sender": sender.name, "valid": valid}
            runtime_logging.log_event(self, "received_message", **told)
        if not valid:
            raise ValueError(_NO_MESSAGE)
        if not _quiet(sender, silent):
            self._print_received_message(message, sender)

    def _print_received_message(self, message: Any, sender: Any) -> None:
        say(shown(to_dict(message), sender.name, self._name))

    # -- replies -------------------------------------------------------------------------------------------------------

    def register_reply(
        self,
        trigger: Any,
        reply_func: Callable[..., Any],
        position: int = 0,
        config: Any = None,
        reset_config: Callable[..., Any] | None = None,
        *,
        ignore_async_in_sync_chat: bool = False,
        remove_other_reply_funcs: bool = False,
    ) -> None:
        """Ask a function for replies: `reply_func(recipient, messages, sender, config) -> (final, reply)`.

        Args:
            trigger: When: an agent, its name, a class, a function of the sender, None for no sender, or a list of
                these.
            reply_func: What; it may be a coroutine function in chats that are asynchronous.
            position: Its place among the others; those registered later come first.
            config: Given to it.
            reset_config: Called with `config` when the agent is reset.
            ignore_async_in_sync_chat: Leave a coroutine function out of synchronous chats.
            remove_other_reply_funcs: Forget all others.

        Raises:
            ValueError: `trigger` is none of these.
        """
        if not isinstance(trigger, type | str | Core | list) and not callable(trigger) and trigger is not None:
            raise ValueError("trigger must be a class, a string, an agent, a callable or a list.")
        if remove_other_reply_funcs:
            self._reply_func_list.clear()
        entry = ReplyFunction(
            trigger=trigger,
            reply_func=reply_func,
            config=copy.copy(config),
            init_config=config,
            reset_config=reset_config,
            ignore_async_in_sync_chat=ignore_async_in_sync_chat and inspect.iscoroutinefunction(reply_func),
        )
        self._reply_func_list.insert(position, entry)

    def replace_reply_func(self, old_reply_func: Callable[..., Any], new_reply_func: Callable[..., Any]) -> None:
        """Ask another function in the place of one."""
        for entry in self._reply_func_list:
            if entry["reply_func"] == old_reply_func:
                entry["reply_func"] = new_reply_func

    def generate_reply(
        self, messages: list[Dict] | None = None, sender: Any = None, exclude: Container[Any] = (), **kwargs: Any
    ) -> Reply:
        """What it says next: the first final answer of its reply functions.

        Args:
            messages: The conversation; None: that with `sender`. It may be of any length.
            sender: Who spoke last.
            exclude: Reply functions that are not asked.

        Raises:
            AssertionError: neither was given.
        """
        check()
        if messages is None and sender is None:
            raise AssertionError(f"Either {messages=} or {sender=} must be provided.")
        if messages is None:
            messages = self._oai_messages[sender]
        self.update_agent_state_before_reply(messages)
        messages = self.process_all_messages_before_reply(self.process_last_received_message(messages))
        for entry in [*self._reply_func_list]:
            function = entry["reply_func"]
            if function in cast("Any", exclude) or (inspect.iscoroutinefunction(function) and not asynchronous()):
                continue
            if self._match_trigger(entry["trigger"], sender):
                final, reply = awaited(function(self, messages=messages, sender=sender, config=entry["config"]))
                if runtime_logging.logging_enabled():
                    name = getattr(function, "__name__", str(function))
                    told = {"reply_func_module": function.__module__, "reply_func_name": name, "final": final}
                    runtime_logging.log_event(self, "reply_func_executed", reply=reply, **told)
                if final:
                    return reply
        return self._default_auto_reply

    def process_all_messages_before_reply(self, messages: list[Dict]) -> list[Dict]:
        """The messages as the hooks of that name want them."""
        for hook in self.hook_lists["process_all_messages_before_reply"]:
            messages = hook(messages)
        return messages

    def process_last_received_message(self, messages: list[Dict]) -> list[Dict]:
        """The messages with the last one as the hooks of that name want it."""
        last = self.hook_lists["process_last_received_message"]
        if last and messages and not {"function_call", "context"} & messages[-1].keys() and "content" in messages[-1]:
            content = messages[-1]["content"]
            new = content
            for hook in last:
                new = hook(new)
            if new != content and content != "exit":
                messages = [*messages[:-1], {**messages[-1], "content": new}]
        return messages

    def update_agent_state_before_reply(self, messages: list[Dict]) -> None:
        """Have the hooks of `update_agent_state` set it."""
        for hook in self.hook_lists["update_agent_state"]:
            hook(self, messages)

    def _match_trigger(self, trigger: Any, sender: Any) -> bool:
        if trigger is None:
            return sender is None
        if isinstance(trigger, str):
            return sender is not None and trigger == sender.name
        if isinstance(trigger, type):
            return isinstance(sender, trigger)
        if isinstance(trigger, Core):
            return trigger is sender
        if isinstance(trigger, Sequence):
            return any(self._match_trigger(one, sender) for one in cast("Sequence[Any]", trigger))
        if not callable(trigger):
            raise ValueError(f"Unsupported trigger type: {type(trigger)}")  # noqa: TRY004 - programs catch it
        return bool(trigger(sender))

    def register_hook(self, hookable_method: str, hook: Callable[..., Any]) -> None:
        """Have a function see or change what passes by.

        Raises:
            AssertionError: there is no such place, or it is there already.
        """
        if hookable_method not in self.hook_lists:
            raise AssertionError(f"{hookable_method} is not a hookable method.")
        if hook in self.hook_lists[hookable_method]:
            raise AssertionError(f"{hook} is already registered as a hook.")
        self.hook_lists[hookable_method].append(hook)

    def _hooked(self, place: str, value: Any) -> Any:
        for hook in self.hook_lists[place]:
            value = hook(value)
            if value is None:
                raise ValueError(f"{place} hook returned None")
        return value

    def _raise_exception_on_async_reply_functions(self) -> None:
        found = [
            entry["reply_func"].__name__
            for entry in self._reply_func_list
            if inspect.iscoroutinefunction(entry["reply_func"]) and not entry["ignore_async_in_sync_chat"]
        ]
        if found and not asynchronous():
            raise RuntimeError(
                "Async reply functions can only be used with ConversableAgent.a_initiate_chat(). The following async "
                f"reply functions are found: {', '.join(found)}"
            )

    a_send = twin(send)
    a_receive = twin(receive)
    a_generate_reply = twin(generate_reply)


_NO_MESSAGE = (
    "Message can't be converted into a valid ChatCompletion message. Either content or function_call must be provided."
)


def _quiet(agent: Any, silent: bool | None) -> bool:
    own: bool | None = getattr(agent, "silent", None)
    return bool(silent if own is None else own)
