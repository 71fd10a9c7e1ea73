"""`wherry show RUN --request N`: what the model saw, byte for byte."""

from __future__ import annotations

import sys

from wherry.cli.ending import Exit, print_json
from wherry.cli.history import find_run
from wherry.errors import RunNotFound
from wherry.journal import digests_of_request, messages_of_request
from wherry.journal.reading import schemas_of_request
from wherry.messages import Message, canonical
from wherry.observe.visible import visible
from wherry.store import open_store


def show_request(run_id: str, number: int, *, as_json: bool) -> Exit:
    """The messages and the tools of a run's n-th request.

    Raises:
        RunNotFound: no run's id begins like that, several do, or it made fewer requests.
        StoreError: a message is missing or damaged, or the run was pruned.
    """
    store = open_store()
    try:
        run = find_run(store, run_id)
        try:
            names = digests_of_request(store, run.run_id, number)
        except ValueError as error:
            raise RunNotFound(str(error), hint="`wherry show RUN` shows them") from error
        messages = messages_of_request(store, run.run_id, number)
        schemas = schemas_of_request(store, run.run_id, number)
    finally:
        store.close()
    if as_json:
        for name, message in zip(names, messages, strict=True):
            print_json({"type": "message", "digest": name, "message": message.to_json()})
        for schema in schemas:
            print_json({"type": "tool", "tool": schema.to_json()})
        return Exit.DONE
    for place, (name, message) in enumerate(zip(names, messages, strict=True), 1):
        size = len(message.encode())
        sys.stdout.write(f"--- {place} {message.role}, {size:,} bytes, {name}\n{_text(message)}\n")
    for schema in schemas:
        sys.stdout.write(f"--- tool {visible(schema.name)}\n{visible(schema.description)}\n")
        sys.stdout.write(f"{visible(canonical(schema.parameters).decode('utf-8', 'replace'))}\n")
    return Exit.DONE


def _text(message: Message) -> str:
    lines = [visible(message.content)] if message.content else []
    for call in message.tool_calls:
        arguments = canonical(call.arguments).decode("utf-8", "replace")
        lines.append(f"calls {visible(call.name)} {visible(arguments)}")
    lines += [f"image {image.media_type}, {len(image.data):,} bytes" for image in message.images]
    return "\n".join(lines)
