"""What an agent is made of, so that a change of it is seen: prompt, model, policy, and each tool's schema and code.

What was seen last is kept in the store under the agent's name, and so are the tools that were approved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from wherry.messages import ToolSchema, canonical, digest, parse
from wherry.store import Store
from wherry.tools import Tool
from wherry.tools.intent import WithIntent

TOOL = "tool/"
"""Before the names of tools among an agent's parts."""
MOST_TEXT = 100_000
"""Characters of one part that are kept for diffs; its digest is of the whole."""
MOST_DIFF = 20_000
"""Characters of a diff that a record holds."""
_BASELINE = ""
"""The key that says that an agent's first tools were taken note of."""


@dataclass(frozen=True, slots=True)
class Version:
    """One part of an agent as it is."""

    digest: str
    text: str
    """For people, and for diffs."""
    _: KW_ONLY
    schema: str = ""
    """Of a tool: the digest of its schema."""
    run_id: str = ""
    """The run that saw it first."""

    def to_json(self) -> dict[str, str]:
        return {"digest": self.digest, "text": self.text, "schema": self.schema, "run_id": self.run_id}

    @classmethod
    def from_json(cls, raw: Mapping[str, str]) -> Version:
        return cls(raw["digest"], raw["text"], schema=raw.get("schema", ""), run_id=raw.get("run_id", ""))


Versions = Mapping[str, Version]
"""By part: `prompt`, `model`, `policy`, `tool/NAME`."""


def version_of_text(text: str) -> Version:
    return Version(digest(text.encode("utf-8", "surrogatepass")), text[:MOST_TEXT])


def version_of_tool(name: str, tool: Tool, *, code: bool = True) -> Version:
    """A tool's version. Made once for a schema and a piece of code, however many runs ask.

    Args:
        name: What the model calls it by.
        tool: The tool.
        code: Whether it has code of its own: a managed agent has not.
    """
    inner = tool.inner if isinstance(tool, WithIntent) else tool
    schema, (source, of_code) = inner.schema, inner.source() if code else (None, None)
    known: tuple[object, object, str, Version] | None = inner.__dict__.get("_version")
    if known is not None and known[0] is schema and known[1] == of_code and known[2] == name:
        return known[3]
    of_schema = schema_digest(name, schema)
    shown = {"description": schema.description, "parameters": schema.parameters, "returns": schema.returns}
    text = "\n".join(
        [
            f"tool {name}",
            json.dumps(shown, indent=2, ensure_ascii=False, sort_keys=True, default=str),
            source if source is not None else f"code {of_code}",
        ]
    )
    whole = digest(canonical([of_schema, of_code]))
    made = Version(whole, text[:MOST_TEXT], schema=of_schema)
    inner.__dict__["_version"] = (schema, of_code, name, made)
    return made


def schema_digest(name: str, schema: ToolSchema) -> str:
    """The digest of what a model is told of a tool by that name."""
    return digest(canonical({**schema.to_json(), "name": name}))


def last_seen(store: Store, agent: str) -> dict[str, Version]:
    """What an agent of that name was made of when it ran last; empty if it never ran, or that cannot be read."""
    return {key: Version.from_json(parse(value)) for key, value in store.changes.read(_owner(agent)).items()}


def keep_seen(store: Store, agent: str, before: Versions, after: Versions, *, run_id: str) -> None:
    """Keep what differs from what was seen before."""
    changed: dict[str, bytes | None] = {
        key: canonical({**version.to_json(), "run_id": run_id})
        for key, version in after.items()
        if key not in before or before[key].digest != version.digest
    }
    changed |= dict.fromkeys(before.keys() - after.keys(), None)
    if changed:
        store.changes.write(_owner(agent), changed)


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two looks at an agent."""

    what: str
    """`tools`, `prompt`, `model` or `policy`."""
    payload: Mapping[str, Any]  # Any: JSON
    """Of the event that says so."""


def compare(before: Versions, after: Versions) -> list[Change]:
    """What changed, with a diff that people can read."""
    out: list[Change] = []
    names = {key for key in before.keys() | after.keys() if key.startswith(TOOL)}
    changed = sorted(name for name in names if _digest(before, name) != _digest(after, name))
    if changed:
        payload: dict[str, Any] = {"added": [], "removed": [], "changed": [], "code": []}
        for key in changed:
            verb = "added" if key not in before else "removed" if key not in after else "changed"
            if verb == "changed" and before[key].schema == after[key].schema:
                verb = "code"
            payload[verb].append(key.removeprefix(TOOL))
        payload["digests"] = {key.removeprefix(TOOL): after[key].schema for key in changed if key in after}
        payload["diff"] = _cut("".join(_diff(key, before, after) for key in changed))
        payload["since"] = _since(before, changed)
        out.append(Change("tools", payload))
    for what in ("prompt", "model", "policy"):
        if _digest(before, what) != _digest(after, what):
            payload = {"before": _digest(before, what), "after": _digest(after, what)}
            payload["diff"] = _cut(_diff(what, before, after))
            payload["since"] = _since(before, [what])
            out.append(Change(what, payload))
    return out


# -- approved tools


def approved_tools(store: Store, agent: str) -> frozenset[tuple[str, str]] | None:
    """The tools that an agent of that name may call, each with the digest of its schema; None: nobody looked yet."""
    kept = store.changes.read(_approved(agent))
    if _BASELINE not in kept:
        return None
    return frozenset((name, schema) for name, _, schema in (key.rpartition("/") for key in kept if key))


def approve_tool(store: Store, agent: str, name: str, schema: str, *, text: str = "") -> None:
    """Let agents of that name call a tool with a schema of that digest; `text` is for later diffs."""
    store.changes.write(_approved(agent), {f"{name}/{schema}": _note(text)})


def approved_text(store: Store, agent: str, name: str) -> str:
    """What the tool was when it was approved last; empty if it never was."""
    kept = [parse(value) for key, value in store.changes.read(_approved(agent)).items() if key.startswith(f"{name}/")]
    return max(kept, key=lambda note: note["at"])["text"] if kept else ""


def take_first_tools(store: Store, agent: str, versions: Versions) -> None:
    """Take note of the tools that an agent has when it first runs under a policy that asks for new ones."""
    first: dict[str, bytes | None] = {
        f"{key.removeprefix(TOOL)}/{version.schema}": _note(version.text)
        for key, version in versions.items()
        if key.startswith(TOOL)
    }
    store.changes.write(_approved(agent), {**first, _BASELINE: _note("")})


def diff_of(before: str, after: str, what: str) -> str:
    """Two texts compared, as `diff -u` shows it."""
    import difflib  # seldom needed

    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"{what} before", f"{what} now", lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _note(text: str) -> bytes:
    return canonical({"at": time.time(), "text": text})


def _owner(agent: str) -> str:
    return f"seen/{agent}"


def _approved(agent: str) -> str:
    return f"approved/{agent}"


def _digest(versions: Versions, key: str) -> str | None:
    found = versions.get(key)
    return None if found is None else found.digest


def _since(before: Versions, keys: Sequence[str]) -> str | None:
    """The latest run that saw what is compared with."""
    return max((before[key].run_id for key in keys if key in before), default="") or None


def _diff(key: str, before: Versions, after: Versions) -> str:
    old, new = before.get(key), after.get(key)
    shown = diff_of("" if old is None else old.text, "" if new is None else new.text, key)
    return shown or f"{key} differs beyond its first {MOST_TEXT:,} characters\n"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_DIFF else f"{text[:MOST_DIFF]}\n… {len(text) - MOST_DIFF:,} characters more\n"
