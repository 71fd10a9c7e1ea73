"""What programs rely on: shapes of messages, who replies when, when a chat ends, how functions are called."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from wherry import FunctionModel, Limits, ScriptedModel, open_store
from wherry.compat.autogen import (
    Agent,
    AgentNameConflictError,
    AssistantAgent,
    Cache,
    ChatResult,
    ConversableAgent,
    GroupChat,
    GroupChatManager,
    LLMConfig,
    NoEligibleSpeaker,
    OpenAIWrapper,
    UserProxyAgent,
    config_list_from_json,
    filter_config,
    initiate_chats,
    register_function,
)
from wherry.compat.autogen.coding import LocalCommandLineCodeExecutor
from wherry.compat.autogen.schemas import get_function_schema
from wherry.errors import ModelError, WherryError
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest


def over(message: dict[str, Any]) -> bool:
    return "TERMINATE" in (message.get("content") or "")


OVER: dict[str, Any] = {"is_termination_msg": over}


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


class Money(BaseModel):
    amount: float
    currency: str = "EUR"


def config(*replies: Any, **more: Any) -> dict[str, Any]:
    return {"config_list": [{"model": ScriptedModel(replies)}], **more}


def plain(name: str, **more: Any) -> ConversableAgent:
    given: dict[str, Any] = {"llm_config": False, "human_input_mode": "NEVER", "silent": True, **more}
    return ConversableAgent(name, **given)


def calling(*calls: tuple[str, dict[str, Any]]) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall(f"c{n}", name, arguments) for n, (name, arguments) in enumerate(calls)])


# ---- messages


def test_both_have_the_message() -> None:
    ann, bo = plain("ann"), plain("bo")
    ann.send("hello", bo)
    assert ann.chat_messages[bo] == [{"content": "hello", "role": "assistant", "name": "ann"}]
    assert bo.chat_messages[ann] == [{"content": "hello", "role": "user", "name": "ann"}]
    assert bo.last_message() == bo.last_message(ann) == {"content": "hello", "role": "user", "name": "ann"}
    with pytest.raises(ValueError, match="Either content or function_call"):
        ann.send({"wrong": 1}, bo)
    with pytest.raises(KeyError):
        ann.last_message(plain("cy"))


def test_replies_go_back_and_forth_up_to_the_limit() -> None:
    ann = plain("ann", max_consecutive_auto_reply=3, default_auto_reply="a")
    bo = plain("bo", max_consecutive_auto_reply=100, default_auto_reply="b")
    result = ann.initiate_chat(bo, message="start")
    assert [message["content"] for message in result.chat_history] == ["start", "b", "a", "b", "a", "b", "a", "b"]
    assert result.summary == "b"
    assert result.cost["usage_including_cached_inference"] == {"total_cost": 0}


def test_a_long_chat_needs_no_deep_stack() -> None:
    ann, bo = (plain(name, max_consecutive_auto_reply=1_500, default_auto_reply="go on") for name in ("ann", "bo"))
    assert len(ann.initiate_chat(bo, message="start", summary_method=None).chat_history) == 3_001


@given(turns=st.integers(1, 12))
@settings(max_examples=12, deadline=None)
def test_max_turns(turns: int) -> None:
    ann, bo = plain("ann", default_auto_reply="a"), plain("bo", default_auto_reply="b")
    history = ann.initiate_chat(bo, message="start", max_turns=turns).chat_history
    assert len(history) == 2 * turns
    assert [message["name"] for message in history] == ["ann", "bo"] * turns


def test_a_termination_message_ends_it() -> None:
    ann = plain("ann", **OVER, default_auto_reply="and?")
    bo = plain("bo", llm_config=config("one", "two TERMINATE", "never"))
    result = ann.initiate_chat(bo, message="start")
    assert [m["content"] for m in result.chat_history] == ["start", "one", "and?", "two TERMINATE"]
    assert result.summary == "two "


def test_clear_history() -> None:
    ann, bo = plain("ann"), plain("bo")
    for n in range(4):
        ann.send(str(n), bo)
    bo.clear_history(nr_messages_to_preserve=2)
    assert [message["content"] for message in bo.chat_messages[ann]] == ["2", "3"]
    bo.clear_history(ann)
    assert bo.chat_messages[ann] == []
    ann.initiate_chat(bo, message="new", clear_history=False, max_turns=1)
    assert len(ann.chat_messages[bo]) == 6  # a reply of nothing is one


# ---- people


def test_human_input_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["my words", "", "exit"])

    def asked(prompt: str) -> str:
        return next(said)

    monkeypatch.setattr("builtins.input", asked)
    ann = plain("ann", human_input_mode="ALWAYS", default_auto_reply="auto")
    bo = plain("bo", default_auto_reply="b")
    result = ann.initiate_chat(bo, message="start")
    assert [m["content"] for m in result.chat_history] == ["start", "b", "my words", "b", "auto", "b"]
    assert result.human_input == ["my words", "", "exit"]


def test_a_person_interrupts_a_call() -> None:
    class Ann(ConversableAgent):
        def get_human_input(self, prompt: str) -> str:
            return "stop that"

    ann, bo = Ann("ann", human_input_mode="ALWAYS", llm_config=False), plain("bo")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    final, reply = ann.check_termination_and_human_reply([{"content": None, "tool_calls": [call]}], bo)
    assert final
    assert reply["tool_responses"] == [{"role": "tool", "tool_call_id": "c", "content": "USER INTERRUPTED"}]
    assert reply["content"] == "stop that"


# ---- functions


def test_functions_told_called_and_answered() -> None:
    def exchange(base: Annotated[Money, "what is changed"], to: Annotated[str, "into what"] = "USD") -> Money:
        return Money(amount=base.amount * 2, currency=to)

    model = ScriptedModel([calling(("exchange", {"base": {"amount": 3}})), "6 dollars TERMINATE"])
    bot = AssistantAgent("bot", llm_config={"config_list": [{"model": model}]}, silent=True)
    user = UserProxyAgent("user", human_input_mode="NEVER", code_execution_config=False, silent=True, **OVER)
    register_function(exchange, caller=bot, executor=user, description="Changes money")
    history = user.initiate_chat(bot, message="3 euros?").chat_history
    call, result = history[1:3]
    assert call["tool_calls"][0]["function"] == {"name": "exchange", "arguments": '{"base": {"amount": 3}}'}
    assert (call["role"], call["content"]) == ("assistant", None)
    assert result["tool_responses"] == [
        {"tool_call_id": "c0", "role": "tool", "content": '{"amount":6.0,"currency":"USD"}'}
    ]
    assert [message.role for message in model.requests[1].messages] == ["system", "user", "assistant", "tool"]
    (told,) = model.requests[0].tools
    assert (told.name, told.description) == ("exchange", "Changes money")
    assert told.parameters["properties"]["to"] == {"type": "string", "description": "into what", "default": "USD"}
    assert told.parameters["required"] == ["base"]


def test_calls_that_go_wrong_are_told() -> None:
    def breaks() -> str:
        raise RuntimeError("no way")

    user = plain("user", function_map={"breaks": breaks})
    assert user.execute_function({"name": "breaks", "arguments": "{}"})[1]["content"] == "Error: no way"
    assert "not found" in user.execute_function({"name": "other", "arguments": "{}"})[1]["content"]
    ok, wrong = user.execute_function({"name": "breaks", "arguments": "{'a'"})
    assert not ok
    assert "must be in JSON format" in wrong["content"]


def test_a_function_call_of_the_older_kind() -> None:
    def double(x: int) -> int:
        return 2 * x

    bot = plain("bot", llm_config=config(calling(("f", {"x": 4})), functions=[{"name": "f", "parameters": {}}]))
    user = plain("user", function_map={"f": double})
    reply = bot.generate_reply(messages=[{"role": "user", "content": "go"}])
    assert isinstance(reply, dict)
    assert reply["function_call"] == {"name": "f", "arguments": '{"x": 4}'}
    assert user.generate_function_call_reply([reply]) == (True, {"name": "f", "role": "function", "content": "8"})


def test_schemas_need_annotations() -> None:
    space: dict[str, Any] = {}
    exec("def bare(a, b: int = 1): return a", space)
    with pytest.raises(TypeError, match="'a'"):
        get_function_schema(space["bare"], description="x")


# ---- replies of a program's own


def test_reply_functions_in_their_order() -> None:
    ann, bo = plain("ann"), plain("bo", default_auto_reply="last")
    asked: list[str] = []

    def first(recipient: Any, messages: Any, sender: Any, config: Any) -> tuple[bool, Any]:
        asked.append(f"first {config['n']}")
        config["n"] += 1
        return False, None

    def second(recipient: Any, messages: Any, sender: Any, config: Any) -> tuple[bool, Any]:
        asked.append("second")
        return True, f"{recipient.name} to {sender.name}: {messages[-1]['content']}"

    bo.register_reply([ConversableAgent, None], second)
    bo.register_reply(ann, first, config={"n": 0})
    bo.register_reply("nobody", lambda *_, **__: (True, "no"))
    ann.send("hi", bo, request_reply=True)
    assert ann.last_message(bo) == {"content": "bo to ann: hi", "role": "user", "name": "bo"}
    assert asked == ["first 0", "second"]
    assert bo.generate_reply(sender=ann, exclude=[second]) == "last"
    with pytest.raises(AssertionError):
        bo.generate_reply()


def test_hooks() -> None:
    model = ScriptedModel(["yes"])
    bo = plain("bo", llm_config={"config_list": [{"model": model}]})

    def last(messages: list[Any]) -> list[Any]:
        return messages[-1:]

    def framed(sender: Any, message: Any, recipient: Any, silent: bool) -> str:
        return f"[{message}]"

    bo.register_hook("process_last_received_message", str.upper)
    bo.register_hook("process_all_messages_before_reply", last)
    bo.register_hook("process_message_before_send", framed)
    ann = plain("ann")
    ann.send("one", bo, request_reply=False)
    ann.send("two", bo, request_reply=True)
    assert [message.content for message in model.requests[0].messages if message.role == "user"] == ["TWO"]
    assert ann.last_message(bo) == {"content": "[yes]", "role": "user", "name": "bo"}
    assert bo.chat_messages[ann][1]["content"] == "two"
    with pytest.raises(AssertionError):
        bo.register_hook("no_such_place", print)


def test_nested_chats() -> None:
    writer = plain("writer", llm_config=config("a draft"))
    critic = plain("critic", llm_config=config("too short"))
    user = plain("user", max_consecutive_auto_reply=0)
    chat = {"recipient": critic, "max_turns": 1, "summary_method": "last_msg"}
    writer.register_nested_chats([chat], trigger=user, position=0)
    assert user.initiate_chat(writer, message="write", max_turns=1).summary == "too short"


# ---- chats in a queue


def test_a_queue_carries_summaries_over() -> None:
    user = plain("user", max_consecutive_auto_reply=0)
    bots = [plain(f"bot{n}", llm_config=config(f"answer {n}")) for n in range(3)]
    queue = [{"recipient": bot, "message": f"task {n}", "max_turns": 1} for n, bot in enumerate(bots)]
    results = user.initiate_chats(queue)
    assert [result.summary for result in results] == ["answer 0", "answer 1", "answer 2"]
    assert user.chat_messages[bots[2]][0]["content"] == "task 2\nContext: \nanswer 0\nanswer 1"
    assert initiate_chats([]) == []


def test_summary_by_a_model() -> None:
    bot = plain("bot", llm_config=config("forty-two", "It was 42."))
    user = plain("user", max_consecutive_auto_reply=0)
    assert user.initiate_chat(bot, message="6*7?", summary_method="reflection_with_llm").summary == "It was 42."
    model: ScriptedModel = bot.llm_config["config_list"][0]["model"]
    assert "Summarize the takeaway" in "\n".join(message.content for message in model.requests[1].messages)


# ---- the asynchronous twins


async def test_asynchronous_functions_run_in_the_callers_loop() -> None:
    here = threading.get_ident()
    seen: list[int] = []

    async def look(what: Annotated[str, "what"]) -> str:
        await asyncio.sleep(0)
        seen.append(threading.get_ident())
        return f"{what} is there"

    class User(UserProxyAgent):
        async def a_get_human_input(self, prompt: str) -> str:
            seen.append(threading.get_ident())
            return "exit"

    bot = AssistantAgent("bot", llm_config=config(calling(("look", {"what": "it"})), "done TERMINATE"), silent=True)
    user = User("user", human_input_mode="TERMINATE", code_execution_config=False, silent=True, **OVER)
    register_function(look, caller=bot, executor=user, description="Looks")
    result = await user.a_initiate_chat(bot, message="look")
    assert result.chat_history[2]["content"] == "it is there"
    assert seen == [here, here]


test_asynchronous_functions_run_in_the_callers_loop = pytest.mark.anyio(
    test_asynchronous_functions_run_in_the_callers_loop
)


@pytest.mark.anyio
async def test_chats_at_the_same_time() -> None:
    user = plain("user", max_consecutive_auto_reply=0)
    bots = [plain(f"bot{n}", llm_config=config(f"answer {n}")) for n in range(3)]
    queue: list[dict[str, Any]] = [
        {"chat_id": n, "recipient": bot, "message": f"task {n}", "max_turns": 1} for n, bot in enumerate(bots)
    ]
    queue[2]["prerequisites"] = [0, 1]
    results = await user.a_initiate_chats(queue)
    assert results[2].chat_history[0]["content"] == "task 2\nContext: \nanswer 0\nanswer 1"


@pytest.mark.anyio
async def test_a_chat_that_is_cancelled_stops() -> None:
    under_way, gone = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    rounds: list[int] = []

    def reply(recipient: Any, messages: Any, sender: Any, config: Any) -> tuple[bool, str]:
        rounds.append(1)
        loop.call_soon_threadsafe(under_way.set)
        gone.wait(20)
        return True, "on"

    ann, bo = plain("ann"), plain("bo")
    bo.register_reply(ConversableAgent, reply)
    task = asyncio.create_task(ann.a_initiate_chat(bo, message="start"))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone.set()
    assert len(rounds) == 1


def test_coroutines_are_not_for_plain_chats() -> None:
    async def reply(recipient: Any, messages: Any, sender: Any, config: Any) -> tuple[bool, str]:
        return True, "x"

    ann, bo = plain("ann"), plain("bo")
    bo.register_reply(ConversableAgent, reply)
    with pytest.raises(RuntimeError, match="a_initiate_chat"):
        ann.initiate_chat(bo, message="x")
    assert asyncio.run(ann.a_initiate_chat(bo, message="x", max_turns=1)).summary == "x"


# ---- models


@pytest.mark.slow
def test_the_next_model_is_asked() -> None:
    dead = ScriptedModel([ModelError("no such key", kind="AuthFailed")] * 3, name="dead")
    alive = ScriptedModel(["I am here"], name="alive")
    bot = plain("bot", llm_config={"config_list": [{"model": dead}, {"model": alive}]})
    assert bot.generate_reply(messages=[{"role": "user", "content": "who?"}]) == "I am here"


@pytest.mark.slow
def test_failures_are_raised() -> None:
    bot = plain("bot", llm_config=config(ModelError("no such key", kind="AuthFailed")))
    with pytest.raises(ModelError, match="no such key"):
        bot.generate_reply(messages=[{"role": "user", "content": "who?"}])


def test_answers_are_kept_by_seed() -> None:
    model = ScriptedModel(["one", "two", "three"])
    user = plain("user", max_consecutive_auto_reply=0, store=open_store("memory://"))
    bot = plain("bot", llm_config={"config_list": [{"model": model}]})
    said: list[ChatResult] = []
    for seed in (1, 1, 2):
        with Cache.disk(cache_seed=seed) as cache:
            said.append(user.initiate_chat(bot, message="hi", cache=cache, max_turns=1))
    assert [result.summary for result in said] == ["one", "one", "two"]
    cost = said[-1].cost
    assert cost["usage_excluding_cached_inference"]["scripted"]["completion_tokens"] > 0


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="config_list"):
        plain("bot", llm_config={"temperature": 0})
    two = [{"model": "a", "tags": ["x"]}, {"model": "b", "tags": ["y"]}]
    assert filter_config(two, {"tags": ["y"]}) == [two[1]]
    (tmp_path / "list.json").write_text('[{"model": "a"}, {"model": "b"}]')
    assert config_list_from_json("list.json", str(tmp_path), {"model": "b"}) == [{"model": "b"}]
    model = ScriptedModel(["hello"])
    with LLMConfig(config_list=[{"model": model}]):
        bot = ConversableAgent("bot")
    assert bot.generate_reply(messages=[{"role": "user", "content": "hi"}]) == "hello"
    assert "secret" not in repr(LLMConfig(model="x", api_key="secret"))


def test_the_client_alone() -> None:
    client = OpenAIWrapper(config_list=[{"model": ScriptedModel(["hello"])}])
    response = client.create(messages=[{"role": "user", "content": "hi"}])
    assert client.extract_text_or_completion_object(response) == ["hello"]
    assert client.total_usage_summary is not None


def test_one_run_a_chat_and_limits_for_all_of_it() -> None:
    store = open_store("memory://")
    user = plain("user", default_auto_reply="go on", store=store, limits=Limits(requests=3))
    bot = plain("bot", llm_config={"config_list": [{"model": FunctionModel(lambda _: "yes")}]})
    with pytest.raises(WherryError, match="3 requests"):
        user.initiate_chat(bot, message="start")
    (chat,) = [run for run in store.runs() if run.parent_run_id is None]
    assert len(list(store.runs(parent=chat.run_id))) == 4


# ---- code


def test_code_runs_in_the_sandbox_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("5")
    user = UserProxyAgent("user", human_input_mode="NEVER", code_execution_config={"work_dir": tmp_path}, silent=True)
    code = "```python\nn = int(open('in.txt').read())\nopen('out.txt', 'w').write(str(n * 2))\nprint(n)\n```"
    reply = user.generate_reply(messages=[{"role": "user", "content": code}])
    assert reply == "exitcode: 0 (execution succeeded)\nCode output: \n5\n"
    assert (tmp_path / "out.txt").read_text() == "10"
    failed = user.generate_reply(messages=[{"role": "user", "content": "```python\n1/0\n```"}])
    assert str(failed).startswith("exitcode: 1 (execution failed)")
    assert "ZeroDivisionError" in str(failed)
    shell = user.generate_reply(messages=[{"role": "user", "content": "```sh\nrm -rf /\n```"}])
    assert "no shell" in str(shell)


def test_an_executor_of_the_coding_module(tmp_path: Path) -> None:
    executor = LocalCommandLineCodeExecutor(timeout=20, work_dir=tmp_path)
    user = plain("user", code_execution_config={"executor": executor})
    assert "Code output: 7" in str(user.generate_reply(messages=[{"role": "user", "content": "```\nprint(7)\n```"}]))
    with pytest.raises(ValueError, match="executor"):
        plain("other", code_execution_config={"executor": executor, "work_dir": "x"})


# ---- groups


def group(*, llm: Any = False, **options: Any) -> tuple[list[ConversableAgent], GroupChat, GroupChatManager]:
    agents = [plain(name, default_auto_reply=f"I am {name}") for name in ("ann", "bo", "cy_dee")]
    chat = GroupChat(agents, [], **options)
    return agents, chat, GroupChatManager(chat, llm_config=llm, silent=True)


@given(
    edges=st.dictionaries(st.integers(0, 2), st.sets(st.integers(0, 2), min_size=1), min_size=1),
    way=st.sampled_from(["random", "round_robin"]),
)
@settings(max_examples=40, deadline=None)
def test_transitions_hold(edges: dict[int, set[int]], way: str) -> None:
    agents = [plain(name, default_auto_reply="x") for name in ("ann", "bo", "cy")]
    allowed = {agents[a]: [agents[b] for b in sorted(others)] for a, others in edges.items()}
    chat = GroupChat(
        agents,
        [],
        max_round=8,
        speaker_selection_method=way,
        allowed_or_disallowed_speaker_transitions=allowed,
        speaker_transitions_type="allowed",
    )
    agents[0].initiate_chat(GroupChatManager(chat, silent=True), message="start", silent=True, summary_method=None)
    names = [message["name"] for message in chat.messages]
    follows = {a.name: {b.name for b in others} for a, others in allowed.items()}
    assert all(b in follows[a] for a, b in pairwise(names))
    assert len(names) == 8 or names[-1] not in follows


def test_round_robin_and_everybody_hears() -> None:
    agents, chat, manager = group(max_round=4, speaker_selection_method="round_robin")
    agents[1].initiate_chat(manager, message="start")
    assert [m["name"] for m in chat.messages] == ["bo", "cy_dee", "ann", "bo"]
    assert [m["content"] for m in agents[0].chat_messages[manager]] == ["start", "I am cy_dee", "I am ann", "I am bo"]
    assert [m["role"] for m in agents[0].chat_messages[manager]] == ["user", "user", "assistant", "user"]


def test_a_model_chooses_and_is_asked_again() -> None:
    model = ScriptedModel(["bo or cy_dee", "it should be cy dee!", "nobody", "neither", "none"])
    agents, chat, manager = group(llm={"config_list": [{"model": model}]}, max_round=3, allow_repeat_speaker=False)
    agents[0].initiate_chat(manager, message="start")
    assert [m["name"] for m in chat.messages] == ["ann", "cy_dee", "ann"]  # the third: the next in the order


def test_without_a_model_the_next_in_the_order_speaks() -> None:
    agents, chat, manager = group(max_round=3)
    agents[0].initiate_chat(manager, message="start")
    assert [m["name"] for m in chat.messages] == ["ann", "bo", "cy_dee"]


def test_any_agent_can_run_a_group() -> None:
    agents, chat, _ = group(max_round=2, speaker_selection_method="round_robin")
    deputy = plain("deputy")
    deputy.register_reply(Agent, GroupChatManager.run_chat, config=chat, reset_config=GroupChat.reset)
    agents[0].initiate_chat(deputy, message="hello")
    assert [m["name"] for m in chat.messages] == ["ann", "bo"]
    deputy.reset()
    assert chat.messages == []


def test_functions_of_a_program_choose() -> None:
    def choose(last: Any, chat: GroupChat) -> Any:
        return {1: chat.agents[2], 2: "round_robin"}.get(len(chat.messages))

    agents, chat, manager = group(max_round=9, speaker_selection_method=choose)
    agents[0].initiate_chat(manager, message="start")
    assert [m["name"] for m in chat.messages] == ["ann", "cy_dee", "ann"]
    chat.speaker_selection_method = lambda *_: None
    with pytest.raises(NoEligibleSpeaker):
        chat.select_speaker(agents[0], manager)


def test_who_can_execute_a_call_speaks_next() -> None:
    def tool() -> str:
        return "done"

    bot = plain("bot", llm_config=config(calling(("tool", {})), "thanks"))
    idle, worker = plain("idle"), plain("worker")
    register_function(tool, caller=bot, executor=worker, description="works")
    chat = GroupChat([idle, bot, worker], [], max_round=4, speaker_selection_method="round_robin")
    idle.initiate_chat(GroupChatManager(chat, silent=True), message="start")
    assert [m["name"] for m in chat.messages] == ["idle", "bot", "worker", "idle"]
    assert chat.messages[2]["content"] == "done"


def test_forgetting_and_going_on() -> None:
    agents, chat, manager = group(max_round=3, speaker_selection_method="round_robin", enable_clear_history=True)
    agents[1].register_reply(ConversableAgent, lambda *_, **__: (True, {"content": "CLEAR HISTORY now then"}))
    agents[0].initiate_chat(manager, message="start")
    assert [m["content"] for m in chat.messages] == ["now then", "I am cy_dee"]
    last, message = manager.resume(
        [{"role": "user", "name": "ann", "content": "a"}, {"role": "user", "name": "bo", "content": "b TERMINATE"}],
        remove_termination_string="TERMINATE",
    )
    assert (last, message["content"]) == (agents[1], "b ")
    assert [m["content"] for m in chat.messages] == ["a"]


@pytest.mark.anyio
async def test_two_of_one_name(caplog: pytest.LogCaptureFixture) -> None:
    agents = [plain("ann"), plain("bo"), plain("ann")]
    chat = GroupChat(agents, [], 5, speaker_selection_method="round_robin")
    assert "called ann" in caplog.text
    manager = GroupChatManager(chat, llm_config=False)
    following = [await chat.a_select_speaker(agent, manager) for agent in agents]
    assert [agents.index(one) for one in following] == [1, 2, 0]
    assert chat.agent_by_name("ann") is agents[0]
    with pytest.raises(AgentNameConflictError):
        chat.agent_by_name("ann", raise_on_name_conflict=True)


def test_what_a_group_cannot_be() -> None:
    with pytest.raises(ValueError, match="Don't provide both"):
        group(
            allow_repeat_speaker=True,
            allowed_or_disallowed_speaker_transitions={},
            speaker_transitions_type="allowed",
        )
    _, chat, manager = group(speaker_selection_method="by magic")
    with pytest.raises(ValueError, match="by magic"):
        chat.select_speaker(chat.agents[0], manager)


def test_pictures_arrive() -> None:
    seen: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        seen.append(request)
        return "a cat"

    bot = plain("bot", llm_config={"config_list": [{"model": FunctionModel(answer, images=True)}]})
    part = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    bot.generate_reply(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}])
    (message,) = [message for message in seen[0].messages if message.role == "user"]
    assert "What is it?" in message.content
    assert message.images[0].url == "https://example.com/cat.png"
