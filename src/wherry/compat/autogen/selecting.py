"""Who speaks next, chosen by a model: it is asked for a name, and asked again when it gives none or several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any  # Any: agents of programs' own classes

from wherry.compat.autogen.client import OpenAIWrapper
from wherry.compat.autogen.console import say
from wherry.compat.autogen.messages import Dict, content_str
from wherry.compat.autogen.settings import validated

if TYPE_CHECKING:
    from wherry.compat.autogen.group_chat import GroupChat

_NAME_TOKENS = 64


def chosen(group: GroupChat, selector: Any, among: Sequence[Any]) -> str | None:
    """The name that the model gives; None where it names nobody however often it is asked, and where there is none.

    The model is that of `select_speaker_auto_llm_config`, or else the selector's.
    """
    client = _client(group, selector)
    if client is None:
        return None
    agents = list(among)
    messages: list[Dict] = [{"role": "system", "content": group.select_speaker_msg(agents)}]
    transform: Any = group.select_speaker_transform_messages
    said = [_plain(message) for message in group.messages]
    messages += said if transform is None else transform.apply_transform(said) if hasattr(
        transform, "apply_transform") else transform(said)  # fmt: skip
    role = group.role_for_select_speaker_messages or "system"
    if prompt := group.select_speaker_prompt(agents):
        messages.append({"role": role, "content": prompt})
    for attempt in range(group.max_retries_for_selecting_speaker + 1):
        reply = client.ask(
            messages,
            cache=selector.client_cache,
            tools=None,
            functions=None,
            max_tokens=min(_NAME_TOKENS, client.max_tokens or _NAME_TOKENS),
        ).reply.text
        names = mentioned(reply, agents)
        if group.select_speaker_auto_verbose:
            say(f">>>>>>>> Select speaker attempt #{attempt + 1}: {', '.join(names) or 'nobody'}")
        if len(names) == 1:
            return next(iter(names))
        again = group.select_speaker_auto_multiple_template if names else group.select_speaker_auto_none_template
        messages.append({"role": "assistant", "content": reply})
        messages.append({"role": role, "content": again.format(agentlist=str([one.name for one in agents]))})
    return None


def _client(group: GroupChat, selector: Any) -> OpenAIWrapper | None:
    config = validated(group.select_speaker_auto_llm_config)
    if config is not None:
        client = OpenAIWrapper(owner=selector._owner, **config)
        own: Any = group.select_speaker_auto_model_client_cls
        classes: list[Any] = [] if own is None else [*own] if isinstance(own, list | tuple) else [own]
        for one in classes:
            client.register_model_client(one)
        return client
    return selector.client


def _plain(message: Dict) -> Dict:
    """A message without calls: the model that chooses has no tools."""
    content = content_str(message.get("content"))
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    if message.get("function_call"):
        calls.append(message["function_call"])
    content += "".join(f"\n[calls {call.get('name')}({call.get('arguments')})]" for call in calls)
    return {"role": "user", "content": content, "name": message.get("name", "")}


def mentioned(content: Any, agents: Sequence[Any]) -> dict[str, int]:
    """How often a text names each agent; an underscore may be a blank there, or escaped."""
    text = f" {content_str(content['content'] if isinstance(content, dict) else content)} "
    found: dict[str, int] = {}
    for agent in agents:
        names = {agent.name, agent.name.replace("_", " "), agent.name.replace("_", r"\_")}
        pattern = rf"(?<=\W)(?:{'|'.join(map(re.escape, sorted(names)))})(?=\W)"
        if count := len(re.findall(pattern, text)):
            found[agent.name] = count
    return found
