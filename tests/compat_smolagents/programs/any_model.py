# pyright: basic
"""One tool, both kinds of agent, a model of one's choice."""

import os

from wherry.compat.smolagents import CodeAgent, OpenAIServerModel, ToolCallingAgent, tool

model = OpenAIServerModel(model_id="m", api_base=os.environ["MODEL_URL"], api_key="none", temperature=0.2)


@tool
def get_weather(location: str, celsius: bool | None = False) -> str:
    """
    Tells the weather of the next days at a place. It has never been good.

    Args:
        location: the place
        celsius: whether degrees are Celsius
    """
    return f"Rain in {location}, at {-10 if celsius else 14} degrees"


agent = ToolCallingAgent(tools=[get_weather], model=model, verbosity_level=-1)
print("ToolCallingAgent:", agent.run("What's the weather like in Paris?"))

agent = CodeAgent(tools=[get_weather], model=model, verbosity_level=-1, stream_outputs=True)
print("CodeAgent:", agent.run("What's the weather like in Paris?"))
