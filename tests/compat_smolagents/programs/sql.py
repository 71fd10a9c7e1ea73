# pyright: basic
"""A database behind a tool."""

import os
import sqlite3

from wherry.compat.smolagents import CodeAgent, OpenAIModel, tool

db = sqlite3.connect(":memory:", check_same_thread=False)
db.execute("CREATE TABLE receipts (receipt_id INTEGER, customer_name TEXT, price REAL, tip REAL)")
db.executemany(
    "INSERT INTO receipts VALUES (?, ?, ?, ?)",
    [(1, "Alan Payne", 12.06, 1.20), (2, "Alex Mason", 23.86, 0.24), (3, "Woodrow Wilson", 53.43, 5.43)],
)


@tool
def sql_engine(query: str) -> str:
    """
    Allows you to perform SQL queries on the table. Returns a string representation of the result.
    The table is named 'receipts'. Its description is as follows:
        Columns:
        - receipt_id: INTEGER
        - customer_name: VARCHAR(16)
        - price: FLOAT
        - tip: FLOAT

    Args:
        query: The query to perform. This should be correct SQL.
    """
    return "".join(f"\n{row}" for row in db.execute(query))


agent = CodeAgent(tools=[sql_engine], model=OpenAIModel("m", os.environ["MODEL_URL"], "none"), verbosity_level=-1)
print(agent.run("Can you give me the name of the client who got the most expensive receipt?"))
