"""`GroupChatManager`: runs a group chat. It takes what one says to the others, and asks the next one to speak."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any, cast  # Any: agents of programs' own classes

from wherry.compat.autogen.calling import hop, twin
from wherry.compat.autogen.console import say
from wherry.compat.autogen.conversable import ConversableAgent
from wherry.compat.autogen.core import Core
from wherry.compat.autogen.exception_utils import NoEligibleSpeakerError
from wherry.compat.autogen.group_chat import GroupChat
from wherry.compat.autogen.messages import Dict, content_str
from wherry.compat.autogen.people import HumanInputMode


class GroupChatManager(ConversableAgent):
    """An agent that is a group: whoever talks with it takes part, or begins the chat.

    Args:
        groupchat: The group.
        name: By which others know it.
        max_consecutive_auto_reply: As of any agent; without a bound by default.
        human_input_mode: As of any agent.
        system_message: As of any agent.
        silent: Whether it prints nothing.
        kwargs: As of any agent; `llm_config` is the model that chooses speakers.

    Raises:
        ValueError: its model is told of tools: it calls none.
    """

    def __init__(
        self,
        groupchat: GroupChat,
        name: str = "chat_manager",
        max_consecutive_auto_reply: int | None = sys.maxsize,
        human_input_mode: HumanInputMode = "NEVER",
        system_message: str | list[Any] | None = "Group chat manager.",
        silent: bool = False,
        **kwargs: Any,
    ) -> None:
        config: Any = kwargs.get("llm_config")
        if config and (config.get("functions") or config.get("tools")):
            raise ValueError(
                "GroupChatManager is not allowed to make function/tool calls. Please remove the 'functions' or 'tools' "
                "config in 'llm_config' you passed in."
            )
        super().__init__(
            name=name,
            max_consecutive_auto_reply=max_consecutive_auto_reply,
            human_input_mode=human_input_mode,
            system_message=system_message,
            **kwargs,
        )
        self._groupchat = groupchat
        self._last_speaker: Any = None
        self._quiet = silent
        self.register_reply(Core, GroupChatManager.run_chat, config=groupchat, reset_config=GroupChat.reset)
        # The very group, not a copy: what is said in it is what the program looks at.
        self._reply_func_list[0]["config"] = groupchat

    @property
    def groupchat(self) -> GroupChat:
        """The group."""
        return self._groupchat

    @property
    def last_speaker(self) -> Any:
        """Who sent what the manager passed on last."""
        return self._last_speaker

    def chat_messages_for_summary(self, agent: Any) -> list[Dict]:
        """What was said in the group."""
        return self._groupchat.messages

    def _prepare_chat(
        self, recipient: Any, clear_history: bool, prepare_recipient: bool = True, reply_at_receive: bool = True
    ) -> None:
        super()._prepare_chat(recipient, clear_history, prepare_recipient, reply_at_receive)
        if clear_history:
            self._groupchat.reset()
        for agent in self._groupchat.agents:
            if recipient is not agent or prepare_recipient:
                agent._prepare_chat(self, clear_history, False, reply_at_receive)

    def run_chat(
        self, messages: list[Dict] | None = None, sender: Any = None, config: GroupChat | None = None
    ) -> tuple[bool, Any]:
        """Run the chat from the last message on, to its end."""
        group = self._groupchat if config is None else config
        message = (self._oai_messages[sender] if messages is None else messages)[-1]
        if group.send_introductions:
            for agent in group.agents:
                self.send(group.introductions_msg(), agent, request_reply=False, silent=True)
        before = [agent.client_cache for agent in group.agents]
        if self.client_cache is not None:
            for agent in group.agents:
                agent.client_cache = self.client_cache
        try:
            GroupChatManager._rounds(self, group, message, sender)
        finally:
            for agent, old in zip(group.agents, before, strict=True):
                agent.client_cache = old
        return True, None

    @staticmethod
    def _rounds(manager: ConversableAgent, group: GroupChat, message: Dict, speaker: Any) -> None:
        """Let one after the other speak; any agent may be the manager, which `run_chat` is registered with."""
        quiet = bool(getattr(manager, "_quiet", False))
        for number in range(1, group.max_round + 1):
            if isinstance(manager, GroupChatManager):
                manager._last_speaker = speaker
            group.append(message, speaker)
            for agent in group.agents:
                if agent is not speaker:
                    hop(manager, "send", message, agent, request_reply=False, silent=True)
            if manager._is_termination_msg(message) or number == group.max_round:
                return
            try:
                speaker = group.select_speaker(speaker, manager)
                if not quiet and not manager._silent(False):
                    say(f"\nNext speaker: {speaker.name}\n")
                reply = hop(speaker, "generate_reply", sender=manager)
            except KeyboardInterrupt:
                speaker = group.agent_by_name(group.admin_name)
                if speaker is None:
                    raise
                reply = hop(speaker, "generate_reply", sender=manager)
            except NoEligibleSpeakerError:
                return
            if reply is None:
                return
            if group.enable_clear_history and isinstance(reply, dict):
                reply = cast("Dict", reply)
                text = content_str(reply.get("content"))
                if "CLEAR HISTORY" in text.upper():
                    reply = {
                        **reply,
                        "content": GroupChatManager.clear_agents_history(
                            cast("Any", manager), {**reply, "content": text}, group
                        ),
                    }
            hop(speaker, "send", reply, manager, request_reply=False, silent=quiet)
            message = manager.last_message(speaker) or {}

    def clear_agents_history(self, reply: Dict, groupchat: GroupChat) -> str:
        """Make agents forget, as a reply says: `CLEAR HISTORY [name] [messages that stay]`.

        Returns:
            The reply without that.
        """
        words = reply["content"].split()
        start = next(n for n, word in enumerate(words) if word.upper() == "CLEAR" and n + 1 < len(words))
        rest = [word.strip(".,;:!?") for word in words[start + 2 : start + 4]]
        taken, agent, most = 2, None, None
        for word in rest:
            if word.isdigit():
                most = int(word)
            elif agent is None and (agent := groupchat.agent_by_name(word)) is not None:
                pass
            else:
                break
            taken += 1
        if "tool_responses" in reply:
            most = max(most or 0, 1)  # what is answered here has to stay
        if agent is not None:
            agent.clear_history(nr_messages_to_preserve=most)
        else:
            groupchat.messages[:] = groupchat.messages[-most:] if most else []
            for one in groupchat.agents:
                one.clear_history(nr_messages_to_preserve=most)
        return " ".join([*words[:start], *words[start + taken :]])

    # -- going on with a chat ------------------------------------------------------------------------------------------

    def resume(
        self,
        messages: list[Dict] | str,
        remove_termination_string: Any = None,
        silent: bool | None = False,
    ) -> tuple[Any, Dict]:
        """Get the group ready to go on with what was said before.

        Args:
            messages: What was said, or JSON of it.
            remove_termination_string: What is taken out of the last message: a text, or a function.
            silent: Whether nothing is printed.

        Returns:
            The agent that spoke last, and its message, for
            `agent.initiate_chat(manager, message=..., clear_history=False)`.

        Raises:
            ValueError: somebody spoke who is not in the group.
        """
        said: list[Dict] = self.messages_from_string(messages) if isinstance(messages, str) else messages
        if not said or not all("role" in one for one in said):
            raise ValueError("Messages must be a list of dicts with a role, and not empty.")
        group = self._groupchat
        authors = [self if one.get("name") == self.name else group.agent_by_name(one.get("name", "")) for one in said]
        for one, author in zip(said, authors, strict=True):
            if author is None:
                raise ValueError(f"Agent name in message doesn't exist as agent in group chat: {one.get('name')}")
        self._prepare_chat(authors[-1], clear_history=True)
        *before, last = [copy.copy(one) for one in said]
        for message, author in zip(before, authors, strict=False):
            if author is not self:
                author.send(message, self, request_reply=False, silent=True)
            for agent in group.agents:
                if agent is not author:
                    self.send(message, agent, request_reply=False, silent=True)
            group.append(message, author)
        if remove_termination_string and isinstance(last.get("content"), str):
            remove = remove_termination_string
            last["content"] = remove(last["content"]) if callable(remove) else last["content"].replace(remove, "")
        self._last_speaker = authors[-1]
        return authors[-1], last

    def messages_from_string(self, message_string: str) -> list[Dict]:
        """Messages of JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(message_string)

    def messages_to_string(self, messages: list[Dict]) -> str:
        """Messages as JSON."""
        return json.dumps(messages)

    a_run_chat = twin(run_chat)
    a_resume = twin(resume)
