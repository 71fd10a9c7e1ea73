"""The most tokens that a text is likely to take where its tokenizer is not at hand.

Byte-level tokenizers never make more tokens than a text has bytes, but for English that is four times too many.
So bytes are weighted by kind. The weights are upper bounds, measured 2026-11 on random strings of each kind with the
tokenizers of Qwen2.5, Llama 3, cl100k and o200k (the worst of the four):

    random letters 0.66    random lower-case words 0.49    digits 1.00 (Qwen: one each)    hex 0.88    base64 0.74
    random printable ASCII 0.78    Cyrillic, Greek, Arabic 0.77    CJK 0.78    Hangul 0.87    other scripts 1.00

A text that is crafted against a tokenizer can still pass the weight of letters (0.8 in runs, 0.6 in words); the
counter's margin and the server's own report are there for that.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

_LETTERS = bytes(range(ord("a"), ord("z") + 1)) + bytes(range(ord("A"), ord("Z") + 1))
_UPPER = _LETTERS[26:]
_BLANKS = b" \n\t\r"
_ASCII = bytes(range(128))
_CONTINUATION = bytes(range(0x80, 0xC0))
_COMMON_TWO = bytes([0xC3, *range(0xCE, 0xD4), *range(0xD7, 0xDC)])
_CJK = bytes(range(0xE3, 0xEA))
_HANGUL = bytes(range(0xEA, 0xEE))
_BLANK_BEFORE_DIGIT = re.compile(rb"[ \n\t\r][0-9]")
_LINE_OF_LETTERS = re.compile(rb"(?<=[A-Za-z]{8})[\r\n]")
_RARE_HAN, _RARE_EA = re.compile("[\u3400-\u4dff]"), re.compile("[\ua000-\uabff]")
"""Of which a tokenizer knows next to none: a token for each byte."""

_WORD_LETTER = 0.60
_RUN_LETTER = 0.80
_BLANK = 0.35
_LETTERS_A_BLANK = 8
"""A text with fewer letters to a blank than this is made of words."""
_CAPITALS = 4
"""A text of which a larger part than this are capitals is made of keys and codes."""
_SHORT = 64
"""Characters of a text whose estimate is remembered."""


def _count(data: bytes, kind: bytes) -> int:
    return len(data) - len(data.translate(None, kind))


def estimate(text: str) -> int:
    """Tokens of `text`, estimated from above. O(bytes), never raises."""
    return _of_short(text) if len(text) <= _SHORT else _estimated(text)


def _estimated(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    size = len(data)
    letters, blanks = _count(data, _LETTERS), _count(data, _BLANKS)
    words = letters <= blanks * _LETTERS_A_BLANK and _count(data, _UPPER) * _CAPITALS <= letters
    letter = _WORD_LETTER if words else _RUN_LETTER
    total = size - letters * (1 - letter) - blanks * (1 - _BLANK)
    if blanks:
        total += len(_BLANK_BEFORE_DIGIT.findall(data)) * (1 - _BLANK)  # a blank before a digit is a token of its own
        total += len(_LINE_OF_LETTERS.findall(data)) * (1 - _BLANK)  # and so is the end of a line of one long word
    if not text.isascii():
        leads = data.translate(None, _ASCII + _CONTINUATION)
        total -= _count(leads, _COMMON_TWO) * 2 * 0.2 + _count(leads, _CJK) * 3 * 0.2 + _count(leads, _HANGUL) * 3 * 0.1
        total += len(_RARE_HAN.findall(text)) * 3 * 0.2 + len(_RARE_EA.findall(text)) * 3 * 0.1
    return math.ceil(total)


# The names of tools and the ids of calls are counted again at every step, in the reply and in the result.
_of_short = lru_cache(maxsize=1024)(_estimated)
