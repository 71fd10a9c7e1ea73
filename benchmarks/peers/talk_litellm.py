"""LiteLLM with a list that only grows."""

from __future__ import annotations

import litellm
import talk

messages: list = [{"role": "system", "content": talk.SYSTEM}]


def turn(number: int, words: str) -> None:
    messages.append({"role": "user", "content": words})
    answer = litellm.completion(
        model=f"openai/{talk.MODEL}",
        api_base=talk.URL,
        api_key=talk.KEY,
        messages=messages,
        max_tokens=talk.OUTPUT,
        num_retries=0,
    )
    messages.append({"role": "assistant", "content": answer.choices[0].message.content or ""})


talk.talk(turn)
