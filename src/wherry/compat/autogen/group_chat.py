"""`GroupChat`: who takes part, what was said, and who speaks next."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast  # Any: agents of programs' own classes

from wherry.compat.autogen import selecting
from wherry.compat.autogen.calling import awaited, twin
from wherry.compat.autogen.console import say
from wherry.compat.autogen.core import Core
from wherry.compat.autogen.exception_utils import (
    AgentNameConflictError,
    NoEligibleSpeakerError,
    UndefinedNextAgentError,
)
from wherry.compat.autogen.graph_utils import check_graph_validity, invert_disallowed_to_allowed
from wherry.compat.autogen.io import IOStream
from wherry.compat.autogen.messages import Dict, content_str

logger = logging.getLogger(__name__)

_WAYS = ("auto", "manual", "random", "round_robin")
_TRIES = 3
_WHO = "Enter the number of the next speaker (enter nothing or `q` to use auto selection): "


@dataclass
class GroupChat:
    """Several agents that talk by one conversation, which a `GroupChatManager` runs.

    Args:
        agents: Who takes part.
        messages: What was said before.
        max_round: How often somebody speaks at most, the first message included.
        admin_name: Who speaks when a person interrupts.
        func_call_filter: Whether only those speak behind a call who can execute it.
        speaker_selection_method: `"auto"` (a model chooses), `"manual"`, `"random"`, `"round_robin"`, or a function of
            (last speaker, group chat) that gives an agent, one of these ways, or None for the end.
        max_retries_for_selecting_speaker: How often a model is asked again that named nobody, or several.
        allow_repeat_speaker: Whether one may speak twice in a row; a list: who may.
        allowed_or_disallowed_speaker_transitions: By agent, who may speak after it, or may not.
        speaker_transitions_type: `"allowed"` or `"disallowed"`.
        enable_clear_history: Whether `CLEAR HISTORY [agent] [number]` in a person's message makes agents forget.
        select_speaker_auto_llm_config: The model that chooses, instead of the manager's.
        select_speaker_auto_model_client_cls: The class of its client, if that is the program's own; or several.
        send_introductions: Whether all are told at the beginning who is there.
    """

    agents: list[Any]
    messages: list[Dict] = field(default_factory=list[Any])
    max_round: int = 10
    admin_name: str = "Admin"
    func_call_filter: bool = True
    speaker_selection_method: str | Callable[..., Any] = "auto"
    max_retries_for_selecting_speaker: int = 2
    allow_repeat_speaker: bool | list[Any] | None = None
    allowed_or_disallowed_speaker_transitions: Mapping[Any, list[Any]] | None = None
    speaker_transitions_type: Literal["allowed", "disallowed"] | None = None
    enable_clear_history: bool = False
    send_introductions: bool = False
    select_speaker_message_template: str = (
        "You choose who speaks next in a conversation. Who takes part:\n{roles}.\n"
        "Read the conversation, then choose the next speaker from {agentlist}. Only return the name."
    )
    select_speaker_prompt_template: str | None = (
        "Read the above conversation. Then choose the next speaker from {agentlist}. Only return the name."
    )
    select_speaker_auto_multiple_template: str = (
        "You named more than one. Return one name alone, exactly as it is written in {agentlist}: whoever is said to "
        "be next, else the first that you named."
    )
    select_speaker_auto_none_template: str = (
        "You named nobody who takes part. Return one name alone, exactly as it is written in {agentlist}."
    )
    select_speaker_transform_messages: Any = None
    select_speaker_auto_verbose: bool | None = False
    select_speaker_auto_llm_config: Any = None
    select_speaker_auto_model_client_cls: Any = None
    role_for_select_speaker_messages: str | None = "system"

    DEFAULT_INTRO_MSG: ClassVar[str] = (
        "Hello everyone. We have assembled a great team today to answer questions and solve tasks. In attendance are:"
    )
    allowed_speaker_transitions_dict: dict[Any, list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        names = self.agent_names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            logger.warning("Several agents of the group are called %s: by name, the first is meant.", ", ".join(twice))
        repeats = cast("object", self.allow_repeat_speaker)
        if repeats is not None and not isinstance(repeats, bool | list):
            raise ValueError("GroupChat allow_repeat_speaker should be a bool or a list of Agents.")
        if isinstance(self.speaker_transitions_type, str):
            self.speaker_transitions_type = cast("Any", self.speaker_transitions_type.lower())
        if self.speaker_transitions_type not in ("allowed", "disallowed", None):
            raise ValueError(f"GroupChat speaker_transitions_type is set to '{self.speaker_transitions_type}'.")
        for name in ("select_speaker_message_template", "role_for_select_speaker_messages",
                     "select_speaker_auto_multiple_template", "select_speaker_auto_none_template"):  # fmt: skip
            if not getattr(self, name):
                raise ValueError(f"{name} cannot be empty or None.")
        if self.select_speaker_prompt_template == "":
            self.select_speaker_prompt_template = None
        tries = cast("object", self.max_retries_for_selecting_speaker)
        if not isinstance(tries, int):
            raise ValueError("max_retries_for_selecting_speaker cannot be None or non-int")  # noqa: TRY004 - programs catch it
        if tries < 0:
            raise ValueError("max_retries_for_selecting_speaker must be greater than or equal to zero")
        if not isinstance(self.select_speaker_auto_verbose, bool):
            raise ValueError("select_speaker_auto_verbose cannot be None or non-bool")  # noqa: TRY004 - programs catch it
        self.allowed_speaker_transitions_dict = self._transitions()

    def _transitions(self) -> dict[Any, list[Any]]:
        given, kind = self.allowed_or_disallowed_speaker_transitions, self.speaker_transitions_type
        if given is None:
            if self.allow_repeat_speaker is None:
                self.allow_repeat_speaker = True
            repeats = self.allow_repeat_speaker
            again = repeats if isinstance(repeats, list) else self.agents if repeats else []
            return {a: [b for b in self.agents if b is not a] + ([a] if a in again else []) for a in self.agents}
        if self.allow_repeat_speaker is not None:
            raise ValueError(
                "Don't provide both allowed_or_disallowed_speaker_transitions and allow_repeat_speaker in group chat. "
                "Please set one of them to None."
            )
        if kind is None:
            raise ValueError(
                "GroupChat allowed_or_disallowed_speaker_transitions is not None, but speaker_transitions_type is "
                "None. Please set speaker_transitions_type to either 'allowed' or 'disallowed'."
            )
        check_graph_validity(given, self.agents)
        if not any(given.values()) and kind == "allowed":
            raise ValueError("allowed_speaker_transitions_dict must have at least one edge.")
        if kind == "allowed":
            return dict(given)
        return invert_disallowed_to_allowed(given, self.agents)

    @property
    def agent_names(self) -> list[str]:
        """The names, in their order."""
        return [agent.name for agent in self.agents]

    def reset(self) -> None:
        """Forget what was said."""
        self.messages.clear()

    def append(self, message: Dict, speaker: Any) -> None:
        """Put down what somebody said."""
        if message.get("role") != "function":
            message["name"] = speaker.name
        content = message.get("content")
        if not isinstance(content, str | list):
            message["content"] = content_str(content) if content is None else str(content)
        self.messages.append(message)

    def agent_by_name(self, name: str, recursive: bool = False, raise_on_name_conflict: bool = False) -> Any:
        """The agent of that name; None if there is none.

        Raises:
            AgentNameConflictError: several have it, and that is not to be.
        """
        found = [one for one in (self.nested_agents() if recursive else self.agents) if one.name == name]
        if raise_on_name_conflict and len(found) > 1:
            raise AgentNameConflictError
        return found[0] if found else None

    def nested_agents(self) -> list[Any]:
        """All agents, also those of groups within."""
        out = list(self.agents)
        for agent in out:
            out.extend(agent.groupchat.nested_agents() if hasattr(agent, "groupchat") else ())
        return out

    def next_agent(self, agent: Any, agents: list[Any] | None = None) -> Any:
        """Who comes after `agent` in the order of the group, of those in `agents`.

        Raises:
            UndefinedNextAgentError: none of these is in the group.
        """
        among = self.agents if agents is None else agents
        if any(one not in self.agents for one in among):
            raise UndefinedNextAgentError
        start = self.agents.index(agent) + 1 if agent in self.agents else 0
        for number in range(len(self.agents)):
            one = self.agents[(start + number) % len(self.agents)]
            if one in among:
                return one
        raise UndefinedNextAgentError

    def select_speaker_msg(self, agents: list[Any] | None = None) -> str:
        """What a model that chooses is told first."""
        among = self.agents if agents is None else agents
        names = str([agent.name for agent in among])
        return self.select_speaker_message_template.format(roles=self._participant_roles(among), agentlist=names)

    def select_speaker_prompt(self, agents: list[Any] | None = None) -> str | None:
        """What a model that chooses is told last."""
        among = self.agents if agents is None else agents
        template = self.select_speaker_prompt_template
        return None if template is None else template.replace("{agentlist}", str([agent.name for agent in among]))

    def introductions_msg(self, agents: list[Any] | None = None) -> str:
        """Who is there."""
        return f"{self.DEFAULT_INTRO_MSG}\n\n{self._participant_roles(self.agents if agents is None else agents)}"

    def _participant_roles(self, agents: list[Any] | None = None) -> str:
        among = self.agents if agents is None else agents
        return "\n".join(f"{agent.name}: {agent.description}".strip() for agent in among)

    def _mentioned_agents(self, message_content: Any, agents: list[Any] | None) -> dict[str, int]:
        return selecting.mentioned(message_content, self.agents if agents is None else agents)

    # -- who speaks next -----------------------------------------------------------------------------------------------

    def select_speaker(self, last_speaker: Any, selector: Any) -> Any:
        """Who speaks next.

        Raises:
            NoEligibleSpeakerError: nobody.
            ValueError: there is no such way to choose, too few take part, or nobody can execute what was called.
        """
        found, among, way = self._candidates(last_speaker)
        if found is not None:
            return found
        if way == "manual":
            found = self.manual_select_speaker(among)
        elif way == "round_robin":
            found = self.next_agent(last_speaker, among)
        elif way == "random":
            found = self.random_select_speaker(among)
        if found is not None:
            return found
        name = selecting.chosen(self, selector, among)
        return self.next_agent(last_speaker, among) if name is None else self.agent_by_name(name)

    def _candidates(self, last: Any) -> tuple[Any, list[Any], str]:
        """Who it is if that is clear already, who it may be, and the way to choose."""
        way: Any = self.speaker_selection_method
        if callable(way):
            way = awaited(way(last, self))
            if way is None:
                raise NoEligibleSpeakerError(
                    "Custom speaker selection function returned None. Terminating conversation."
                )
            if isinstance(way, Core):
                if way not in self.agents:
                    raise ValueError(
                        f"Custom speaker selection function returned an agent {way.name} not in the group chat."
                    )
                return way, self.agents, ""
        if not isinstance(way, str):
            raise ValueError(  # noqa: TRY004 - programs catch it
                f"Custom speaker selection function returned an object of type {type(way)} instead of Agent or str."
            )
        if way.lower() not in _WAYS:
            raise ValueError(
                f"GroupChat speaker_selection_method is set to '{way}'. It should be one of {list(_WAYS)}."
            )
        if len(self.agents) < 2:
            raise ValueError(
                f"GroupChat is underpopulated with {len(self.agents)} agents. Please add more agents to the GroupChat "
                "or use direct communication instead."
            )
        among = self._able()
        repeats = self.allow_repeat_speaker
        if (last in repeats if isinstance(repeats, list) else repeats) is False:
            among = [one for one in among if one is not last]
        following = self.allowed_speaker_transitions_dict.get(last)
        if following is None and last in self.agents:
            raise NoEligibleSpeakerError(f"Last speaker {last.name} is not in the allowed_speaker_transitions_dict.")
        if following is not None:
            among = [one for one in among if one in following] or among
        if len(among) == 1:
            return among[0], among, ""
        return None, among, way.lower()

    def _able(self) -> list[Any]:
        """Those who can execute what was called last, if that matters."""
        last = self.messages[-1] if self.messages else {}
        wanted = [call["function"]["name"] for call in last.get("tool_calls") or ()]
        if last.get("function_call"):
            wanted.append(last["function_call"]["name"])
        if not self.func_call_filter or not wanted:
            return self.agents
        able = [one for one in self.agents if one.can_execute_function(wanted)]
        able = able or [one for one in self.agents if one.function_map]
        if not able:
            raise ValueError(
                f"No agent can execute the function {', '.join(wanted)}. Please check the function_map of the agents."
            )
        return able

    def manual_select_speaker(self, agents: list[Any] | None = None) -> Any:
        """Whom a person chooses; None where they leave it to the model."""
        among = self.agents if agents is None else agents
        say("Please select the next speaker from the following list:")
        for number, agent in enumerate(among, 1):
            say(f"{number}: {agent.name}")
        for _ in range(_TRIES):
            try:
                said = IOStream.get_default().input(_WHO).strip()
            except EOFError:  # nobody is there: as if nothing had been entered
                return None
            if said in ("", "q"):
                return None
            if said.isdigit() and 0 < int(said) <= len(among):
                return among[int(said) - 1]
            say(f"Invalid input. Please enter a number between 1 and {len(among)}.")
        return None

    def random_select_speaker(self, agents: list[Any] | None = None) -> Any:
        """Anybody."""
        return random.choice(self.agents if agents is None else agents)  # noqa: S311 - nothing is to be kept from anyone

    a_select_speaker = twin(select_speaker)
