"""A run whose process dies in a tool's call: `python -m tests.policy.dying run|resume|"go on" KIND URL LOG [RUN]`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from wherry import FunctionModel, ToolCallingAgent, tool
from wherry.errors import ToolError
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.tools import StartedCall, current_context


def agent(kind: str, url: str, log: Path, *, dies: bool) -> ToolCallingAgent:
    def checker(call: StartedCall) -> object:
        if kind == "cannot tell":
            raise ToolError("the bank is closed")
        made = log.read_text("utf-8").splitlines()
        return f"paid, says the bank: {call.arguments['to']}" if call.key in made else None

    options: dict[str, Any] = {
        "plain": {},
        "idempotent": {"side_effects": True, "idempotent": True},
        "checked": {"side_effects": True, "checker": checker},
        "cannot tell": {"side_effects": True, "checker": checker},
        "unknown": {"side_effects": True},
        "approved": {"side_effects": True, "needs_approval": True},
    }[kind]

    @tool(**options)
    def pay(to: str) -> str:
        """Pay somebody."""
        if dies and to == "early":
            os._exit(9)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{current_context().idempotency_key}\n")
        if dies:
            os._exit(9)
        return f"paid {to}"

    def answer(request: ModelRequest) -> ModelReply:
        said = [message.content for message in request.messages if message.role == "tool"]
        if said:
            return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": said})])
        return ModelReply(tool_calls=[ToolCall("c1", "pay", {"to": request.messages[-1].content})])

    return ToolCallingAgent([pay], FunctionModel(answer), store=url)


if __name__ == "__main__":
    what, kind, url, log, *rest = sys.argv[1:]
    worker = agent(kind, url, Path(log), dies=what != "go on")
    result = worker.run(rest[0]) if what == "run" else worker.resume(rest[0])
    pending = [[approval.id, approval.kind] for approval in result.pending]
    said = {"status": result.status, "output": result.output, "run_id": result.run_id, "pending": pending}
    sys.stdout.write(f"{json.dumps(said)}\n")
    worker.store.close()
