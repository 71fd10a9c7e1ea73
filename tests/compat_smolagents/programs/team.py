# pyright: basic
"""A manager and two specialists; tools that are put in while the program runs."""

import os

from wherry.compat.smolagents import ActionStep, CodeAgent, LiteLLMModel, Tool, ToolCallingAgent, tool

model = LiteLLMModel(model_id="openai/m", api_base=os.environ["MODEL_URL"], api_key="none")


class PrimeTool(Tool):
    name = "smallest_prime_factor"
    description = "The smallest prime factor of a number."
    inputs = {"n": {"type": "integer", "description": "a number above 1"}}
    output_type = "integer"

    def forward(self, n: int) -> int:
        return next(factor for factor in range(2, n + 1) if n % factor == 0)


class MemoTool(Tool):
    name = "memo"
    description = "Keeps notes: action is 'set', 'get' or 'list'."
    inputs = {
        "action": {"type": "string", "description": "set, get or list"},
        "key": {"type": "string", "description": "the name of the note", "nullable": True},
        "value": {"type": "string", "description": "the note", "nullable": True},
    }
    output_type = "string"

    def __init__(self):
        super().__init__()
        self.notes = {}

    def forward(self, action: str, key: str | None = None, value: str | None = None) -> str:
        if action == "set":
            self.notes[key] = value
            return "kept"
        return self.notes.get(key, "nothing") if action == "get" else str(sorted(self.notes))


@tool
def factorial(n: int) -> int:
    """
    The factorial of a number.

    Args:
        n: a number from 0
    """
    return 1 if n < 2 else n * factorial(n - 1)


math_specialist = CodeAgent(
    tools=[PrimeTool()], model=model, name="math_specialist", description="Knows numbers.", verbosity_level=-1
)
math_specialist.tools["factorial"] = factorial
research_specialist = ToolCallingAgent(
    tools=[MemoTool()],
    model=model,
    name="research_specialist",
    description="Looks things up and keeps notes.",
    verbosity_level=-1,
    provide_run_summary=True,
)
manager_agent = CodeAgent(
    tools=[],
    model=model,
    managed_agents=[math_specialist, research_specialist],
    max_steps=4,
    verbosity_level=-1,
    step_callbacks={ActionStep: lambda step, agent: print("step", step.step_number, "of", agent.agent_name)},
)
print(manager_agent.run("What is the smallest prime factor of 5! + 1? Note it."))
print(manager_agent.monitor.get_total_token_counts())
print(math_specialist.memory.steps[0].task, "|", len(math_specialist.memory.steps))
