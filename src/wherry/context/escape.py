"""Making sure that no text can pose as a turn of the conversation, or as wherry.

A tool's result with `<|im_end|>` and `<|im_start|>system` in it was obeyed as a system turn by a real llama.cpp server
(2026-11): servers parse control tokens wherever they stand. So a blank is put behind the first character of each, in
every text except the system prompt: tool results, code output, users' messages, and also what the model itself wrote
(a model can be talked into spelling out a control token, and it comes back in the next request). People and models
read it as before; a tokenizer does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

# Of ChatML, Llama 3 and 4, GPT, Phi, Command and, with the wide bar, DeepSeek: never plain text in any of them.
_FAMILIES = r"<[|｜][^|｜<>\s]{1,64}[|｜]>"
_OWN_TAGS = r"</?wherry:"

_SURROGATE = re.compile("[\ud800-\udfff]")


@lru_cache(maxsize=64)
def _pattern(control_tokens: tuple[str, ...], own_tags: bool) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """What matches any of them, and the characters that a match can begin with."""
    longest_first = sorted({token for token in control_tokens if len(token) > 1}, key=len, reverse=True)
    tags = [_OWN_TAGS] if own_tags else []
    pattern = re.compile("|".join([*(re.escape(token) for token in longest_first), _FAMILIES, *tags]))
    return pattern, tuple({"<", *(token[0] for token in longest_first)})


def escape(text: str, control_tokens: Iterable[str] = (), *, own_tags: bool = True) -> str:
    """`text` with no control token in it, none of wherry's tags, and no lone surrogate.

    Args:
        text: Any text.
        control_tokens: Those of the model's family, in addition to everything of the form `<|...|>`. Those of a
            single character cannot be broken and are left alone.
        own_tags: False for what was escaped before, and may have wherry's tags where wherry put them.
    """
    pattern, firsts = _pattern(control_tokens if isinstance(control_tokens, tuple) else tuple(control_tokens), own_tags)
    for first in firsts:  # most texts have none of them, and looking for one character costs next to nothing
        if first in text:
            text = _broken(pattern, text)
            break
    if not text.isascii() and _SURROGATE.search(text):
        text = _SURROGATE.sub("\ufffd", text)  # no server takes one: UTF-8 has no room for it
    return text


def _broken(pattern: re.Pattern[str], text: str) -> str:
    # A replacement never shortens, so it makes no new token out of two halves; a token that is itself a blank longer
    # than another one could: hence the loop, which ends because one pass is enough for all real families.
    for _ in range(4):
        replaced = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        if replaced == text:
            break
        text = replaced
    return text
