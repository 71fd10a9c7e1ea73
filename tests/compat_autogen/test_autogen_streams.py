"""Chats over a web socket, and queues that are looked through before they begin."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from wherry import ScriptedModel
from wherry.compat.autogen import AssistantAgent, ConversableAgent, UserProxyAgent
from wherry.compat.autogen.agentchat.utils import consolidate_chat_info, gather_usage_summary
from wherry.compat.autogen.cache import AbstractCache, Cache
from wherry.compat.autogen.io.base import IOStream
from wherry.compat.autogen.io.console import IOConsole
from wherry.compat.autogen.io.websockets import IOWebsockets


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


def _chat(stream: IOWebsockets, *script: str) -> Any:
    first = stream.input("What about? ")
    assistant = AssistantAgent("a", llm_config={"config_list": [{"model": ScriptedModel([*script])}]})
    return UserProxyAgent("user", code_execution_config=False).initiate_chat(assistant, message=first)


def test_a_chat_over_a_web_socket() -> None:
    done: queue.Queue[Any] = queue.Queue()
    with (
        IOWebsockets.run_server_in_thread(port=0, on_connect=lambda s: done.put(_chat(s, "One?", "Two."))) as address,
        connect(address) as client,
    ):
        heard = [str(client.recv(timeout=20))]
        client.send("Numbers.")
        while "Provide feedback" not in heard[-1] and "exit" not in heard[-1]:
            heard.append(str(client.recv(timeout=20)))
        client.send("Go on.")
        while "Two." not in heard[-1]:
            heard.append(str(client.recv(timeout=20)))
        client.send(b"exit")
        result = done.get(timeout=20)
    assert heard[0] == "What about? "
    assert [message["content"] for message in result.chat_history] == ["Numbers.", "One?", "Go on.", "Two."]
    assert isinstance(IOStream.get_default(), IOConsole)  # elsewhere nothing has changed


def test_no_page_of_the_web_speaks_for_its_reader() -> None:
    with IOWebsockets.run_server_in_thread(port=0, on_connect=lambda s: s.print("Hello.")) as address:
        for page in ("https://example.com", "http://localhost.example.com", "null"):
            with pytest.raises(InvalidStatus, match="403"):
                connect(address, origin=Origin(page))
        with connect(address, origin=Origin("http://localhost:8000")) as client:
            assert client.recv(timeout=20) == "Hello.\n"
    with (
        IOWebsockets.run_server_in_thread(
            port=0, on_connect=lambda s: s.print("Hello."), origins=["https://example.com"]
        ) as address,
        connect(address, origin=Origin("https://example.com")) as client,
    ):
        assert client.recv(timeout=20) == "Hello.\n"


def test_a_chat_ends_when_its_person_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    done: queue.Queue[Any] = queue.Queue()
    with caplog.at_level(logging.WARNING):
        with IOWebsockets.run_server_in_thread(
            port=0, on_connect=lambda s: done.put(_chat(s, "One?", "Two."))
        ) as address:
            with connect(address) as client:
                client.send("Numbers.")
                while "One?" not in str(client.recv(timeout=20)):
                    pass
                while "exit" not in str(client.recv(timeout=20)):
                    pass
            result = done.get(timeout=20)
        assert [message["content"] for message in result.chat_history] == ["Numbers.", "One?"]


def test_agents_do_not_go_on_for_nobody() -> None:
    left, done = threading.Event(), queue.Queue[Any]()

    def talk(stream: IOWebsockets) -> None:
        left.wait(20)
        with pytest.raises(ConnectionClosed) as caught:
            stream.print("Anybody?")
        done.put(caught.type)

    with IOWebsockets.run_server_in_thread(port=0, on_connect=talk) as address:
        with connect(address):
            pass
        left.set()
        assert issubclass(done.get(timeout=20), ConnectionClosed)


def test_a_function_that_fails_leaves_the_server_to_others(caplog: pytest.LogCaptureFixture) -> None:
    def greet(stream: IOWebsockets) -> None:
        stream.print("Hello,", stream.input(), end="!")
        raise LookupError("nothing")

    with caplog.at_level(logging.WARNING), IOWebsockets.run_server_in_thread(port=0, on_connect=greet) as address:
        for name in ("Ann", "Bo"):
            with connect(address) as client:
                client.send(name)
                assert client.recv(timeout=20) == f"Hello, {name}!"
    assert "on_connect failed: LookupError: nothing" in caplog.text


def test_a_queue_is_looked_through() -> None:
    one = ConversableAgent("one", llm_config=False)
    asked = AssistantAgent("asked", llm_config={"config_list": [{"model": ScriptedModel(["Hi."])}]})
    consolidate_chat_info({"sender": one, "recipient": asked, "summary_method": "reflection_with_llm"})
    consolidate_chat_info([{"recipient": asked}, {"recipient": one, "summary_method": len}], uniform_sender=one)
    for wrong, said in (
        ({"recipient": one}, "sender must"),
        ({"sender": one}, "recipient must"),
        ({"sender": one, "recipient": one, "summary_method": "short"}, "summary_method must"),
        ({"sender": one, "recipient": one, "summary_method": "reflection_with_llm"}, "llm client must"),
    ):
        with pytest.raises(AssertionError, match=said):
            consolidate_chat_info(wrong)
    assert gather_usage_summary([one])["usage_including_cached_inference"] == {"total_cost": 0}


def test_a_cache_is_one() -> None:
    with Cache.disk(cache_seed=1) as cache:
        assert isinstance(cache, AbstractCache)
