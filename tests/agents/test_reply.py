"""What is taken for code in a reply."""

from __future__ import annotations

import pytest

from wherry.agents.reply import UnreadableReplyError, code_of


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```py\nx = 1\n```", "x = 1"),
        ("```PYTHON\nx = 1\n```", "x = 1"),
        ("```python {.numberLines}\nx = 1\n```", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("Think.\n```python\nx = 1\n```\nThen.\n```python\ny = 2\n```", "x = 1\ny = 2"),
        ('```json\n{"a": 1}\n```\nNow the code:\n```python\nf(1)\n```', "f(1)"),
        ("```python\nf(1)\n```\nIt prints:\n```\n1\n```", "f(1)"),
        ('```python\nprint("use ``` here")\n```', 'print("use ``` here")'),
        ("```python\nf(1)```", "f(1)"),
        ("```python\nf(1)", "f(1)"),
        ("f(1)", "f(1)"),
        ("x = f(1)\nprint(x)", "x = f(1)\nprint(x)"),
        ("  ```python\n  x = 1\n  ```", "  x = 1"),
        ("```python\r\nx = 1\r\n```", "x = 1"),
    ],
)
def test_code_is_found(reply: str, code: str) -> None:
    assert code_of(reply) == code


@pytest.mark.parametrize(
    "reply", ["", "  \n", "I do not know.", "42", "```json\n{}\n```", "```python\nprint('x", "```python\n```"]
)
def test_a_reply_without_code_says_what_is_wanted(reply: str) -> None:
    with pytest.raises(UnreadableReplyError, match="python"):
        code_of(reply)
