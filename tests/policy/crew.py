"""A crew whose models are functions of what they are shown, so that any process can go on with its run.

    python -m tests.policy.crew run URL LOG
    python -m tests.policy.crew resume URL LOG RUN

A boss asks two clerks at the same time; each writes a snippet that looks something up, pays and looks again. Every
call of a tool is a line of the log.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from wherry import CodeAgent, FunctionModel, Policy, RunResult, ToolCallingAgent, tool
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest

SNIPPET = """```python
first = look(what="{who} before")
try:
    said = pay(amount={amount}, to="{who}")
except Exception as error:
    said = str(error)
final_answer([first, said, look(what="{who} after")])
```"""


def clerk_of(request: ModelRequest) -> str:
    found = re.search(r"pay (\d+) to (\w+)", "\n".join(message.content for message in request.messages))
    assert found is not None
    return SNIPPET.format(amount=found[1], who=found[2])


def boss_of(request: ModelRequest) -> ModelReply:
    said = [message.content for message in request.messages if message.role == "tool"]
    if said:
        return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": said})])
    tasks = {"a": "pay 5 to ann", "b": "pay 7 to bob"}
    return ModelReply(tool_calls=[ToolCall(id, "clerk", {"task": task}) for id, task in tasks.items()])


def crew(url: str, log: Path) -> ToolCallingAgent:
    def note(*line: object) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")

    @tool
    def look(what: str) -> str:
        """Look something up."""
        note("look", what)
        return f"{what} is fine"

    @tool(side_effects=True)
    def pay(amount: int, to: str) -> str:
        """Pay somebody."""
        note("pay", amount, to)
        return f"paid {amount} to {to}"

    clerk = CodeAgent([look, pay], FunctionModel(clerk_of), name="clerk", description="Pays bills.")
    return ToolCallingAgent(
        [], FunctionModel(boss_of), name="boss", managed_agents=[clerk], store=url, policy=Policy(approve=["pay"])
    )


def told(result: RunResult) -> None:
    waiting = {approval.arguments["to"]: approval.id for approval in result.pending}
    output = {"status": result.status, "run_id": result.run_id, "pending": waiting, "output": result.output}
    sys.stdout.write(f"{json.dumps(output)}\n")


if __name__ == "__main__":
    what, url, log, *rest = sys.argv[1:]
    boss = crew(url, Path(log))
    told(boss.run("pay the bills") if what == "run" else boss.resume(rest[0]))
    boss.store.close()
