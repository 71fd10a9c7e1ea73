# pyright: basic
"""Several tools, some of which fail."""

import os

from wherry.compat.smolagents import LiteLLMModel, ToolCallingAgent, tool

model = LiteLLMModel(model_id="openai/m", api_base=os.environ["MODEL_URL"], api_key="none")


@tool
def convert_currency(amount: float, from_currency: str, to_currency: str) -> str:
    """
    Converts an amount of money.

    Args:
        amount: The amount.
        from_currency: Such as 'USD'.
        to_currency: Such as 'EUR'.
    """
    return f"{amount} {from_currency} is {amount * 0.9:.2f} {to_currency}."


@tool
def get_news_headlines() -> str:
    """
    Fetches the news.
    """
    raise ConnectionError("the news are down")


@tool
def get_time(zone: str) -> str:
    """
    Tells the time.

    Args:
        zone: Such as 'Europe/Paris'.
    """
    return f"noon in {zone}"


agent = ToolCallingAgent(tools=[convert_currency, get_news_headlines, get_time], model=model, verbosity_level=-1)
print(agent.run("Convert 5000 dollars to euros, tell me the time in Paris and the news"))
for step in agent.memory.steps[1:]:
    print(step.step_number, [call.name for call in step.tool_calls], step.observations, type(step.error).__name__)
