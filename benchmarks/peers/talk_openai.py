"""The openai SDK with a list that only grows; every second turn streamed."""

from __future__ import annotations

import talk
from openai import OpenAI

client = OpenAI(base_url=talk.URL, api_key=talk.KEY, max_retries=0)
messages: list = [{"role": "system", "content": talk.SYSTEM}]


def turn(number: int, words: str) -> None:
    messages.append({"role": "user", "content": words})
    if number % 2:
        stream = client.chat.completions.create(
            model=talk.MODEL, messages=messages, max_tokens=talk.OUTPUT, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    else:
        answer = client.chat.completions.create(model=talk.MODEL, messages=messages, max_tokens=talk.OUTPUT)
        text = answer.choices[0].message.content or ""
    messages.append({"role": "assistant", "content": text})


talk.talk(turn)
