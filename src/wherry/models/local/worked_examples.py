"""What small models are shown of each role. Without examples the 1.5B wrote 2 of 20 snippets right, with four 20.

They stand first in the system prompt, before anything that changes, so a prompt cache keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping

CODE = """\
Example. Task: How many words are in "the cat sat"?
```python
final_answer(len("the cat sat".split()))
```
Example. Task: Which of 12 and 15 has more divisors?
```python
def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]
final_answer(max(12, 15, key=lambda n: len(divisors(n))))
```
Example. Task: What is twice the price of the lamp?
```python
price = get_price("lamp")
print(price)
```
Output:
40
```python
final_answer(40 * 2)
```"""

MANAGER = """\
Example. Task: How many floors of 3 m fit into the tower? Keep the answer.
```python
height = library_specialist("What is the height of the tower?")
floors = number_specialist(f"How many floors of 3 m fit into the tower? {height}")
library_specialist(f"Save in the memo under 'tower': {height} Floors: {floors}")
final_answer(f"{height} Floors of 3 m: {floors}")
```"""

TOOLS = """\
Example. Task: What is the lamp's price?
First call get_price with {"item": "lamp"}; its result is "40 euros". Then call final_answer with {"answer": "The lamp \
costs 40 euros."}"""

WORKED_EXAMPLES: Mapping[str, str] = {"code": CODE, "manager": MANAGER, "tools": TOOLS}
