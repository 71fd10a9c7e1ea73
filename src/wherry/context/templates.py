"""What a chat template adds around the texts of a request, in tokens.

Each number is an upper bound over what was counted or is documented for the family's template; the margin of the
counter covers the rest, and what a server reports corrects it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The overhead of one family's template."""

    encoding: str | None
    """The tokenizer's name in quicktok; None where no exact one is known."""
    _: KW_ONLY
    message: int
    """Role markers and line ends around one message."""
    tool_result: int
    """Added to a message of role `tool`: its wrapping."""
    tool_call: int
    """Wrapping of one call in an assistant's message, without its name and arguments."""
    call_ids: bool
    """Whether the ids of tool calls are rendered."""
    request: int
    """Once a request: begin-of-text, dates, a default system prompt, the opening of the reply."""
    tools: int
    """Once, where there are tools: the instructions on how to call them."""
    tool: int
    """Around one tool's schema."""
    escapes: bool = True
    """Whether JSON may be rendered with other than ASCII as \\uXXXX, which takes far more tokens."""
    indent: int | None = None
    """How the template indents a tool's JSON."""
    known: bool = True
    """Whether it is known that a tool's name does not stand at its result."""


# Qwen2.5's template, counted: 5 a message, 11 more around a tool's result, 87 for the instructions on tools. Qwen3's is
# longer by the thinking block that it may put into the last turns.
_QWEN = ChatTemplate(
    "qwen3", message=6, tool_result=14, tool_call=16, call_ids=False, request=16, tools=110, tool=4, escapes=False
)
_LLAMA3 = ChatTemplate(
    "llama3", message=6, tool_result=8, tool_call=20, call_ids=False, request=48, tools=150, tool=8, indent=4
)
# OpenAI documents 3 a message, 1 a name and 3 for the reply; how tools are rendered is not public, and JSON is an upper
# bound of every rendering that was ever measured.
_O200K = ChatTemplate(
    "o200k_base", message=5, tool_result=8, tool_call=12, call_ids=True, request=16, tools=40, tool=16
)

TEMPLATES: dict[str, ChatTemplate] = {
    "qwen": _QWEN,
    "llama3": _LLAMA3,
    "o200k": _O200K,
    "cl100k": replace(_O200K, encoding="cl100k_base"),
}

UNKNOWN = ChatTemplate(
    None, message=16, tool_result=24, tool_call=28, call_ids=True, request=64, tools=250, tool=16, indent=4, known=False
)
"""For a model of which nothing is known."""
