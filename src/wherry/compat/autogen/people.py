"""When a chat ends, and what a person says in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal  # Any: senders are agents of any kind

from wherry.compat.autogen.calling import hop, twin
from wherry.compat.autogen.console import say
from wherry.compat.autogen.functions import Functions
from wherry.compat.autogen.io import IOStream
from wherry.compat.autogen.messages import Dict

HumanInputMode = Literal["ALWAYS", "NEVER", "TERMINATE"]


class People(Functions):
    """An agent that a person may speak for."""

    human_input_mode: HumanInputMode
    _is_termination_msg: Callable[[Dict], Any]

    def _set_replies(self, most: int | None) -> None:
        self._max_consecutive_auto_reply: int = self.MAX_CONSECUTIVE_AUTO_REPLY if most is None else most
        self._consecutive_auto_reply_counter: defaultdict[Any, int] = defaultdict(int)
        self._max_consecutive_auto_reply_dict: defaultdict[Any, int] = defaultdict(
            lambda: self._max_consecutive_auto_reply
        )

    def update_max_consecutive_auto_reply(self, value: int, sender: Any = None) -> None:
        """Reply by itself so often at most, to everybody or to one."""
        if sender is not None:
            self._max_consecutive_auto_reply_dict[sender] = value
            return
        self._max_consecutive_auto_reply = value
        for one in self._max_consecutive_auto_reply_dict:
            self._max_consecutive_auto_reply_dict[one] = value

    def max_consecutive_auto_reply(self, sender: Any = None) -> int:
        """How often it replies by itself at most."""
        return self._max_consecutive_auto_reply if sender is None else self._max_consecutive_auto_reply_dict[sender]

    def reset_consecutive_auto_reply_counter(self, sender: Any = None) -> None:
        """Count replies from nothing, to everybody or to one."""
        if sender is None:
            self._consecutive_auto_reply_counter.clear()
        else:
            self._consecutive_auto_reply_counter[sender] = 0

    def stop_reply_at_receive(self, sender: Any = None) -> None:
        """Do not reply to what comes, from everybody or from one."""
        if sender is None:
            self.reply_at_receive.clear()
        else:
            self.reply_at_receive[sender] = False

    def get_human_input(self, prompt: str) -> str:
        """What a person says, at the terminal. Override it to ask them elsewhere."""
        reply = self._hooked("safeguard_human_inputs", IOStream.get_default().input(prompt))
        self._human_input.append(reply)
        return reply

    def check_termination_and_human_reply(
        self, messages: list[Dict] | None = None, sender: Any = None, config: Any = None
    ) -> tuple[bool, Any]:
        """Whether the chat ends here, and what a person says instead of the agent.

        Returns:
            `(True, None)`: it ends. `(True, message)`: a person's words. `(False, None)`: the agent goes on by itself.
        """
        if messages is None:
            messages = self._oai_messages[sender] if sender else []
        if not messages:
            return False, None
        message = messages[-1]
        over = bool(self._is_termination_msg(message))
        reply = self._asked(over, sender)
        if reply == "exit":
            self._consecutive_auto_reply_counter[sender] = 0
            return True, None
        if reply or self._max_consecutive_auto_reply_dict[sender] == 0:
            self._consecutive_auto_reply_counter[sender] = 0
            return True, _interrupting(message, reply)
        self._consecutive_auto_reply_counter[sender] += 1
        if self.human_input_mode != "NEVER" and not self._silent(False):
            say("\n>>>>>>>> USING AUTO REPLY...")
        return False, None

    def _asked(self, over: bool, sender: Any) -> str:
        """What a person says: "exit" to end it, nothing to let the agent go on."""
        whom = "the sender" if sender is None else sender.name
        if self.human_input_mode == "ALWAYS":
            reply = self._answer(
                f"Replying as {self.name}. Provide feedback to {whom}. Press enter to skip and use auto-reply, "
                "or type 'exit' to end the conversation: "
            )
            return reply or ("exit" if over else "")
        spent = self._consecutive_auto_reply_counter[sender] >= self._max_consecutive_auto_reply_dict[sender]
        if not spent and not over:
            return ""
        if self.human_input_mode == "NEVER":
            return "exit"
        skip = "" if over else "to skip and use auto-reply, "
        reply = self._answer(
            f"Please give feedback to {whom}. Press enter {skip}or type 'exit' to stop the conversation: "
        )
        return reply or ("exit" if over else "")

    def _answer(self, prompt: str) -> str:
        try:
            return hop(self, "get_human_input", prompt)
        except EOFError:  # what was said so far is worth more than a traceback
            say("\n>>>>>>>> NOBODY IS THERE TO ANSWER (end of input): THE CHAT ENDS.")
            return "exit"

    a_get_human_input = twin(get_human_input)
    a_check_termination_and_human_reply = twin(check_termination_and_human_reply)


def _interrupting(message: Dict, reply: str) -> Dict:
    """A person's words; calls that they came instead of have a result that says so."""
    results: list[Dict] = []
    if call := message.get("function_call"):
        results.append({"role": "function", "name": call.get("name", ""), "content": "USER INTERRUPTED"})
    for call in message.get("tool_calls") or ():
        results.append({"role": "tool", "tool_call_id": call.get("id", ""), "content": "USER INTERRUPTED"})
    said: Dict = {"role": "user", "content": reply}
    return {**said, "tool_responses": results} if results else said
