# pyright: basic
"""Tools of an MCP server, with results that are data."""

import os
import sys
from textwrap import dedent

from mcp import StdioServerParameters

from wherry.compat.smolagents import CodeAgent, LiteLLMModel, MCPClient, ToolCollection

SERVER = dedent(
    """
    from mcp.server import MCPServer
    from pydantic import BaseModel

    mcp = MCPServer("Weather Service")

    class WeatherInfo(BaseModel):
        location: str
        temperature: float
        conditions: str

    @mcp.tool(name="get_weather_info", description="Get weather information for a location as structured data.")
    def get_weather_info(city: str) -> WeatherInfo:
        return WeatherInfo(location=city, temperature=22.5, conditions="partly cloudy")

    mcp.run()
    """
)

model = LiteLLMModel(model_id="openai/m", api_base=os.environ["MODEL_URL"], api_key="none")
serverparams = StdioServerParameters(command=sys.executable, args=["-c", SERVER])
with MCPClient(serverparams, structured_output=True) as tools:
    print(tools[0](city="Oslo")["conditions"])
    agent = CodeAgent(tools=tools, model=model, verbosity_level=-1)
    print(agent.run("What is the temperature in Tokyo in Fahrenheit?"))

with ToolCollection.from_mcp(serverparams, trust_remote_code=True) as collection:
    print([tool.name for tool in collection.tools])
