# pyright: basic
"""A tool that is a class, with what it needs given when it is made."""

import os

from wherry.compat.smolagents import CodeAgent, InferenceClientModel, Tool

PAGES = {
    "training": "The backward pass takes about twice as long as the forward pass.",
    "models": "A model has layers.",
}


class RetrieverTool(Tool):
    name = "retriever"
    description = "Finds the parts of the documentation that could be most relevant to a query."
    inputs = {
        "query": {
            "type": "string",
            "description": "The query. Use the affirmative form rather than a question.",
        }
    }
    output_type = "string"

    def __init__(self, docs, **kwargs):
        super().__init__(**kwargs)
        self.docs = docs

    def forward(self, query: str) -> str:
        assert isinstance(query, str), "Your search query must be a string"
        words = set(query.lower().split())
        ranked = sorted(self.docs.values(), key=lambda text: -len(words & set(text.lower().split())))
        return "\nRetrieved documents:\n" + "".join(
            f"\n\n===== Document {number} =====\n{text}" for number, text in enumerate(ranked)
        )


agent = CodeAgent(
    tools=[RetrieverTool(PAGES)],
    model=InferenceClientModel(base_url=os.environ["MODEL_URL"], model_id="m", token="none"),
    max_steps=4,
    verbosity_level=-1,
)
print("Final output:")
print(agent.run("Which is slower, the forward or the backward pass?"))
