"""`ConversableAgent`, and the two that are made of it most."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast  # Any: users' settings

from wherry.compat.autogen.calling import awaited, twin
from wherry.compat.autogen.chats import Chats
from wherry.compat.autogen.client import OpenAIWrapper, calls_of
from wherry.compat.autogen.coding.base import CodeBlock
from wherry.compat.autogen.coding.factory import executor_of
from wherry.compat.autogen.coding.markdown_code_extractor import extract_code
from wherry.compat.autogen.console import say
from wherry.compat.autogen.core import Core, Reply
from wherry.compat.autogen.messages import Dict, content_str
from wherry.compat.autogen.people import HumanInputMode
from wherry.context import ContextBudget
from wherry.policy import Limits
from wherry.store import Store


class ConversableAgent(Chats):
    """An agent that talks with others: by a model, by functions and code, by a person.

    Args:
        name: By which others know it.
        system_message: What its model is told first; of any length.
        is_termination_msg: Whether a message ends the chat; without it, one that is `TERMINATE`.
        max_consecutive_auto_reply: How often it replies by itself, before a person is asked or the chat ends.
        human_input_mode: `"ALWAYS"`, `"TERMINATE"` (when the chat would end) or `"NEVER"`.
        function_map: Functions that it executes, by name.
        code_execution_config: `work_dir`, `timeout`, `last_n_messages`, `executor`; False: it runs no code.
        llm_config: Its models; False: none.
        default_auto_reply: What it says when nothing else does.
        description: What others are told of it.
        chat_messages: Conversations to go on with.
        silent: Whether it prints nothing.
        functions: Functions that its model is told of, and that it executes.
        store: Where runs are kept: a store of wherry's, or its address.
        context: Bounds of a request.
        limits: What one reply may spend; of a chat that it begins, what all of it may.
    """

    def __init__(
        self,
        name: str,
        system_message: str | list[Any] | None = "You are a helpful AI Assistant.",
        is_termination_msg: Callable[[Dict], Any] | None = None,
        max_consecutive_auto_reply: int | None = None,
        human_input_mode: HumanInputMode = "TERMINATE",
        function_map: Mapping[str, Callable[..., Any]] | None = None,
        code_execution_config: Dict | Literal[False] | None = False,
        llm_config: Any = None,
        default_auto_reply: Reply = "",
        description: str | None = None,
        chat_messages: Mapping[Any, list[Dict]] | None = None,
        silent: bool | None = None,
        context_variables: Any = None,
        functions: Sequence[Callable[..., Any]] | Callable[..., Any] | None = None,
        update_agent_state_before_reply: Any = None,
        *,
        store: Store | str | None = None,
        context: ContextBudget | None = None,
        limits: Limits | None = None,
    ) -> None:
        owner = {"store": store, "context": context, "limits": limits}
        super().__init__(
            name,
            system_message,
            llm_config=llm_config,
            default_auto_reply=default_auto_reply,
            description=description,
            silent=silent,
            owner={key: value for key, value in owner.items() if value is not None},
        )
        if human_input_mode not in ("ALWAYS", "NEVER", "TERMINATE"):
            raise ValueError(f"human_input_mode is {human_input_mode!r}: ALWAYS, NEVER or TERMINATE")
        if chat_messages is not None:
            self._oai_messages = defaultdict(list, chat_messages)
        self.context_variables: Any = context_variables if context_variables is not None else {}
        self.human_input_mode = human_input_mode
        self._is_termination_msg = is_termination_msg or _terminates
        self._set_replies(max_consecutive_auto_reply)
        self._function_map = {}
        self._finished_chats = []
        self.register_function({k: f for k, f in (function_map or {}).items() if callable(f)})
        for function in [functions] if callable(functions) else functions or ():
            if self.llm_config:
                self.register_for_llm()(function)
            self.register_for_execution()(function)
        for update in _several(update_agent_state_before_reply):
            self.hook_lists["update_agent_state"].append(update)
        self._code_execution_config: Dict | Literal[False] = self._execution(code_execution_config)
        self.register_reply([Core, None], ConversableAgent.generate_oai_reply)
        if self._code_execution_config is not False:
            self.register_reply([Core, None], ConversableAgent.generate_code_execution_reply)
        self.register_reply([Core, None], ConversableAgent.generate_tool_calls_reply)
        self.register_reply([Core, None], ConversableAgent.generate_function_call_reply)
        self.register_reply([Core, None], ConversableAgent.check_termination_and_human_reply)

    def _execution(self, config: Any) -> Dict | Literal[False]:
        self._code_executor: Any = None
        if config is False:
            return False
        if config is not None and not isinstance(config, Mapping):
            raise ValueError("code_execution_config must be a dict or False.")
        found: Dict = dict(cast("Mapping[str, Any]", config or {}))
        self._code_executor = executor_of(found)
        return found

    @property
    def code_executor(self) -> Any:
        """What runs code."""
        return self._code_executor

    @property
    def use_docker(self) -> bool | str | None:
        """As it was asked for: code runs in wherry's sandbox either way."""
        return None if self._code_execution_config is False else self._code_execution_config.get("use_docker")

    def reset(self) -> None:
        """Forget conversations, counts and costs."""
        self.clear_history()
        self.reset_consecutive_auto_reply_counter()
        self.stop_reply_at_receive()
        if self.client is not None:
            self.client.clear_usage_summary()
        for entry in self._reply_func_list:
            if entry["reset_config"] is not None:
                entry["reset_config"](entry["config"])
            else:
                entry["config"] = copy.copy(entry["init_config"])

    # -- by its model --------------------------------------------------------------------------------------------------

    def generate_oai_reply(
        self, messages: list[Dict] | None = None, sender: Any = None, config: OpenAIWrapper | None = None
    ) -> tuple[bool, str | Dict | None]:
        """What its model says to a conversation of any length.

        Raises:
            ModelError: the models failed, all of them, and recovering from it did as well.
        """
        client = config if isinstance(config, OpenAIWrapper) else self.client
        if client is None:
            return False, None
        if messages is None:
            messages = self._oai_messages[sender]
        asked = self._hooked("safeguard_llm_inputs", [*self._system(), *messages])
        answered = client.ask(asked, cache=self.client_cache)
        said: str | Dict = answered.reply.text
        if answered.reply.tool_calls:
            calls = calls_of(answered)
            said = {"content": answered.reply.text or None, "role": "assistant", "tool_calls": calls}
            if self.llm_config and self.llm_config.get("functions") and not self.llm_config.get("tools"):
                call = said.pop("tool_calls")[0]
                said["function_call"] = call["function"]
        return True, self._hooked("safeguard_llm_outputs", said)

    def register_model_client(self, model_client_cls: type[Any], **kwargs: Any) -> None:
        """Have its model client of the program's own made: `"model_client_cls"` in the `config_list` names the class.

        Raises:
            ValueError: no entry names it, or there is no model at all.
        """
        if self.client is None:
            raise ValueError(f"{self.name!r} has no llm_config: no entry names {model_client_cls.__name__}")
        self.client.register_model_client(model_client_cls, **kwargs)

    def _system(self) -> list[Dict]:
        return self._oai_system_message if self._oai_system_message[0]["content"] else []

    # -- by code -------------------------------------------------------------------------------------------------------

    def generate_code_execution_reply(
        self, messages: list[Dict] | None = None, sender: Any = None, config: Any = None
    ) -> tuple[bool, str | None]:
        """What comes of the code in the newest message that has some.

        Raises:
            ValueError: `last_n_messages` is neither a number nor `"auto"`.
        """
        own: Any = self._code_execution_config if config is None else config
        if own is False:
            return False, None
        if messages is None:
            messages = self._oai_messages[sender]
        most = own.get("last_n_messages", "auto")
        if most != "auto" and not (isinstance(most, int | float) and most >= 0):
            raise ValueError("last_n_messages must be either a non-negative integer, or the string 'auto'.")
        for number, message in enumerate(reversed(messages)):
            if (number >= most) if most != "auto" else message.get("role", "user") != "user":
                break
            blocks = self._blocks(message.get("content"))
            if blocks:
                code, output = self.execute_code_blocks(blocks)
                how = "execution succeeded" if code == 0 else "execution failed"
                return True, f"exitcode: {code} ({how})\nCode output: {output}"
        return False, None

    def _blocks(self, content: Any) -> list[tuple[str, str]]:
        if not content:
            return []
        return [(language, code) for language, code in extract_code(content) if language != "unknown"]

    def execute_code_blocks(self, code_blocks: Sequence[tuple[str, str]]) -> tuple[int, str]:
        """Run blocks of code, given as (language, code).

        Returns:
            The exit code of the last, and what all of them printed.
        """
        if not self._silent(False):
            say(f"\n>>>>>>>> EXECUTING {len(code_blocks)} CODE BLOCK(S)...")
        own: Any = self._code_execution_config
        if own and own.get("executor") is not None:
            blocks = [CodeBlock(code=code, language=language) for language, code in code_blocks]
            done = awaited(self._code_executor.execute_code_blocks(blocks))
            return done.exit_code, done.output
        status, output = 0, ""
        for language, code in code_blocks:  # by a method that programs may have of their own
            status, said, _ = self.run_code(code, lang=language)
            output += f"\n{said}"
            if status != 0:
                break
        return status, output

    def run_code(self, code: str, lang: str = "python", **_: Any) -> tuple[int, str, str | None]:
        """Run one block of code.

        Returns:
            The exit code, what it printed, and no image.
        """
        if self._code_executor is None:
            self._code_executor = executor_of(self._code_execution_config or {})
        done = awaited(self._code_executor.execute_code_blocks([CodeBlock(code=code, language=lang)]))
        return done.exit_code, done.output, None

    # -- chats within chats --------------------------------------------------------------------------------------------

    def register_nested_chats(
        self,
        chat_queue: Sequence[Mapping[str, Any]],
        trigger: Any,
        reply_func_from_nested_chats: Any = "summary_from_nested_chats",
        position: int = 2,
        use_async: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Reply with what comes of chats with others.

        Args:
            chat_queue: As `initiate_chats` takes it; the first without `message` begins with the last message.
            trigger: When, as `register_reply` has it.
            reply_func_from_nested_chats: `"summary_from_nested_chats"`, or a function of
                (chat_queue, recipient, messages, sender, config).
            position: As `register_reply` has it.
        """
        function = reply_func_from_nested_chats
        if function == "summary_from_nested_chats":
            function = _summary_from_nested
        if not callable(function):
            raise ValueError("reply_func_from_nested_chats must be a callable")  # noqa: TRY004 - programs catch it

        def reply(recipient: Any, messages: Any = None, sender: Any = None, config: Any = None) -> Any:
            return awaited(function(chat_queue, recipient, messages, sender, config))

        self.register_reply(trigger, reply, position, kwargs.get("config"), kwargs.get("reset_config"))

    def print_usage_summary(self, mode: Any = ("actual", "total")) -> None:
        """Print what its models used."""
        if self.client is None:
            say(f"No cost incurred from agent '{self.name}'.")
        else:
            say(f"Agent '{self.name}':")
            self.client.print_usage_summary(mode)

    def get_actual_usage(self) -> Dict | None:
        """What its models used, kept answers not counted."""
        return None if self.client is None else self.client.actual_usage_summary

    def get_total_usage(self) -> Dict | None:
        """What its models used, with kept answers among it, which use nothing."""
        return None if self.client is None else self.client.total_usage_summary

    a_generate_oai_reply = twin(generate_oai_reply)
    a_generate_code_execution_reply = twin(generate_code_execution_reply)


def _terminates(message: Dict) -> bool:
    content = message.get("content")
    return content == "TERMINATE" or (isinstance(content, list) and content_str(content) == "TERMINATE")


def _several(value: Any) -> list[Any]:
    return [] if value is None else [*value] if isinstance(value, list | tuple) else [value]


def _summary_from_nested(
    chat_queue: Sequence[Mapping[str, Any]], recipient: Any, messages: Any, sender: Any, config: Any
) -> tuple[bool, Any]:
    last = messages[-1].get("content") if messages else ""
    chats: list[Dict] = []
    for number, given in enumerate(chat_queue):
        chat = dict(given)
        message = chat.get("message")
        if callable(message):
            chat["message"] = awaited(message(recipient, messages, sender, config))
        elif message is None and number == 0:
            chat["message"] = last
        if chat.get("message"):
            chats.append({"sender": recipient, **chat})
    if not chats:
        return False, None
    from wherry.compat.autogen.chats import initiate_chats

    return True, initiate_chats(chats)[-1].summary


class AssistantAgent(ConversableAgent):
    """An agent that solves tasks with its model, and runs nothing."""

    DEFAULT_SYSTEM_MESSAGE = (
        "You are a helpful AI assistant. Solve the task that you are given, step by step if need be. Where code helps, "
        "write it in one ```python block that is complete and prints what matters; the user runs it as it is and gives "
        "you what it printed. Where the result shows an error, give the whole code again, mended. Check what comes "
        'out before you answer. When everything is done, say "TERMINATE".'
    )
    DEFAULT_DESCRIPTION = "A helpful assistant that solves tasks with language and with Python code."

    def __init__(
        self,
        name: str,
        system_message: str | None = DEFAULT_SYSTEM_MESSAGE,
        llm_config: Any = None,
        is_termination_msg: Callable[[Dict], Any] | None = None,
        max_consecutive_auto_reply: int | None = None,
        human_input_mode: HumanInputMode = "NEVER",
        description: str | None = None,
        **kwargs: Any,
    ) -> None:
        if description is None and system_message == self.DEFAULT_SYSTEM_MESSAGE:
            description = self.DEFAULT_DESCRIPTION
        super().__init__(
            name,
            system_message,
            is_termination_msg,
            max_consecutive_auto_reply,
            human_input_mode,
            llm_config=llm_config,
            description=description,
            **kwargs,
        )


class UserProxyAgent(ConversableAgent):
    """An agent that speaks for a person: it asks them, runs code, executes functions."""

    DEFAULT_USER_PROXY_AGENT_DESCRIPTIONS = {  # noqa: RUF012 - a constant that programs read
        "ALWAYS": "An attentive HUMAN user who can answer questions about the task, and can perform tasks such as "
        "running Python code or inputting command line commands at a Linux terminal and reporting back the execution "
        "results.",
        "TERMINATE": "A user that can run Python code or input command line commands at a Linux terminal and report "
        "back the execution results.",
        "NEVER": "A computer terminal that performs no other action than running Python scripts (provided to it quoted "
        "in ```python code blocks), or sh shell scripts (provided to it quoted in ```sh code blocks).",
    }

    def __init__(
        self,
        name: str,
        is_termination_msg: Callable[[Dict], Any] | None = None,
        max_consecutive_auto_reply: int | None = None,
        human_input_mode: HumanInputMode = "ALWAYS",
        function_map: Mapping[str, Callable[..., Any]] | None = None,
        code_execution_config: Dict | Literal[False] | None = None,
        default_auto_reply: Reply = "",
        llm_config: Any = False,
        system_message: str | list[Any] | None = "",
        description: str | None = None,
        **kwargs: Any,
    ) -> None:
        if description is None:
            description = self.DEFAULT_USER_PROXY_AGENT_DESCRIPTIONS.get(human_input_mode)
        super().__init__(
            name,
            system_message,
            is_termination_msg,
            max_consecutive_auto_reply,
            human_input_mode,
            function_map,
            code_execution_config,
            llm_config,
            default_auto_reply,
            description,
            **kwargs,
        )
