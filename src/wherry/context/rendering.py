"""How messages of a window are put so that every server takes them.

Chat templates differ in what they refuse. Those of Mistral and Gemma raise on two user's messages in a row; Anthropic
and several templates refuse calls and results in a request that offers no tools. So neighbouring user's messages are
one message, and without tools a call and its result are said in words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from wherry.messages import Message

# The counter writes arguments the same way, so that the words take no more than the call that was counted.
_arguments = json.JSONEncoder(ensure_ascii=False, default=str).encode


def in_words(message: Message) -> Message:
    """A call as what the assistant said, a result as what the user says; any other message as it is."""
    if message.role == "tool":
        return Message("user", f"[{message.name or 'tool'} returned]\n{message.content}", images=message.images)
    if message.tool_calls:
        calls = [f"[called {call.name} with {_arguments(dict(call.arguments))}]" for call in message.tool_calls]
        return Message(message.role, "\n".join([message.content, *calls] if message.content else calls))
    return message


def joined(messages: Sequence[Message]) -> Message:
    """Neighbouring user's messages as one. Speakers with different names are told apart by them."""
    if len(messages) == 1:
        return messages[0]
    names = {message.name for message in messages}
    if len(names) == 1:
        name = messages[0].name
        texts = [message.content for message in messages]
    else:
        name = None
        texts = [f"{message.name}: {message.content}" if message.name else message.content for message in messages]
    content = "\n\n".join(text for text in texts if text)
    return Message("user", content, name=name, images=[image for message in messages for image in message.images])
