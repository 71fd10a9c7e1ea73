"""The openai SDK through the proxy to a real llama.cpp server with a window of 2,048 tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.guard_proxy.strict_upstream import guarded
from tests.guard_proxy.test_proxy_requests import sdk

from wherry.errors import CatalogueError
from wherry.guard.proxy import UpstreamSpec
from wherry.models.api_key import ApiKey
from wherry.models.local import pull
from wherry.models.local.server import ServerSettings, close_all, shared

pytestmark = [pytest.mark.anyio, pytest.mark.local_model]


@pytest.fixture
def settings() -> Iterator[ServerSettings]:
    try:
        path = pull("smollm2-135m")
    except CatalogueError as error:
        pytest.skip(f"the model cannot be had here: {error.message}")
    yield ServerSettings(path, context=2_048, slots=1, threads=2)
    close_all()


async def test_a_talk_that_is_longer_than_the_window(settings: ServerSettings) -> None:
    endpoint = await shared(settings).ready()
    spec = UpstreamSpec.parse(endpoint.url, ApiKey(endpoint.key, "llama.cpp"))
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You answer in one word."}]
    async with guarded(specs=[spec]) as proxy:
        client = sdk(proxy)
        for turn in range(6):
            words = " ".join(f"Ship {n} carried {n * 7 % 93} barrels." for n in range(600 if turn == 2 else 30))
            messages.append({"role": "user", "content": f"List {turn}: {words}"})
            answer = await client.chat.completions.create(model="any", messages=messages, max_tokens=8)
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        stream = await client.chat.completions.create(model="any", messages=messages[:-1], max_tokens=8, stream=True)
        assert [chunk.choices[0].index async for chunk in stream]  # llama.cpp's usage event has no choices
        said = [{"role": "user", "content": message["content"]} for message in messages if message["role"] == "user"]
        response = await client.responses.create(model="any", input=said[-1:], max_output_tokens=16)
        text = proxy.metrics.text()
        place = proxy.upstreams[0].learned()[0]
    assert response.usage.output_tokens > 0
    assert place.window == 2_048
    assert "ContextOverflow" not in text
    assert 'what="folded"' in text
