"""Logs: the number of lines, the lines that tell of errors, the head and the tail."""

from __future__ import annotations

import re
from functools import partial

from wherry.context.previews.kinds import Kind, Show
from wherry.context.previews.text import head_and_tail

_STAMPED = re.compile(
    r"^\W?(\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|\w{3} [ \d]\d \d\d:|\[?(DEBUG|INFO|NOTICE|WARN(ING)?|ERROR|FATAL|CRITICAL)\b)"
)
_ERROR = re.compile(
    r"^.*\b(?:error|exception|fatal|critical|failed|panic|traceback)\b.*$", re.IGNORECASE | re.MULTILINE
)
_LINE = 240


def accepts(text: str) -> bool:
    lines = [line for line in text[:20_000].splitlines()[:40] if line.strip()]
    return len(lines) >= 4 and sum(_STAMPED.match(line) is not None for line in lines) * 2 > len(lines)


def read(text: str) -> Show:
    return partial(_show, text)


def _show(text: str, room: int) -> str:
    found: list[str] = []
    count = size = 0
    last = ""
    for match in _ERROR.finditer(text):
        count += 1
        last = match[0][:_LINE]
        if size < room // 3:
            found.append(last)
            size += len(last) + 1
    head = f"{text.count(chr(10)) + 1:,} lines, {count:,} with errors"
    if not found:
        return f"{head}\n{head_and_tail(text, room - len(head) - 1)}"
    if count > len(found):
        found.append(f"[... {count - len(found) - 1:,} more; the last one:]\n{last}")
    errors = head_and_tail("\n".join(found), room // 2)
    return f"{head}:\n{errors}\n---\n{head_and_tail(text, room - len(head) - len(errors) - 6)}"


KIND = Kind("text/x-log", accepts, read)
