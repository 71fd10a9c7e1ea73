"""What the parts of every store must do; `wherry.store.conformance` calls these."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from wherry.errors import StoreConflict, StoreError
from wherry.store.protocol import Store
from wherry.store.records import ApprovalRow, Batch, EventRow, Participant

ODD = "ö\ud800\0 \U0001f600"
"""A text that some databases do not take as it is."""


def hold(truth: bool, sentence: str) -> None:
    """
    Raises:
        AssertionError: `sentence` does not hold.
    """
    if not truth:
        raise AssertionError(sentence)


def together(*acts: Callable[[], object]) -> None:
    """Do all at the same time, in threads; what one raises is raised."""
    raised: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            raised.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def _memo(store: Store, scope: str) -> None:
    memo = store.memo
    hold(memo.get(scope, "none") is None and not memo.delete(scope, "none"), "what was not set is None")
    for key in ("b", ODD, "", "a"):
        memo.set(scope, key, {"v": [key, 1, 1.5, None, True]})
        hold(memo.get(scope, key) == {"v": [key, 1, 1.5, None, True]}, "a value comes back as it was given")
    hold(list(memo.list(scope)) == ["", "a", "b", ODD], "a scope is listed in the order of the keys' bytes")
    hold(memo.list(f"{scope}-other") == {}, "scopes do not see one another")
    memo.set(f"{scope}{ODD}", "k", 1)
    memo.set(f"{scope}-over", "k", 1, ttl=0)
    mine = [name for name in memo.scopes() if name.startswith(scope)]
    hold(mine == [scope, f"{scope}{ODD}"], "the scopes that have values are told")
    hold(memo.delete(f"{scope}{ODD}", "k") and memo.scopes().count(scope) == 1, "and no others")
    hold(memo.delete(scope, "b") and memo.get(scope, "b") is None, "a value that is deleted is gone")
    memo.set(scope, "a", 2)
    hold(not memo.compare_and_set(scope, "a", expected=1, value=3), "another value than expected is left alone")
    hold(memo.compare_and_set(scope, "a", expected=2, value=3) and memo.get(scope, "a") == 3, "an expected one is not")
    hold(not memo.compare_and_set(scope, "a", expected=None, value=4), "None expects that there is no value")
    hold(memo.compare_and_set(scope, "new", expected=None, value=4), "None is what a new key has")
    hold(memo.compare_and_set(scope, "new", expected=4, value=None), "None as the value removes it")
    hold("new" not in memo.list(scope), "None as the value removes it")
    memo.set(scope, "short", 1, ttl=0)
    memo.set(scope, "long", 1, ttl=1e6)
    hold(memo.get(scope, "short") is None and memo.get(scope, "long") == 1, "a value lives as long as it was given")
    hold("short" not in memo.list(scope) and not memo.delete(scope, "short"), "what is over is nowhere to be seen")
    hold(memo.compare_and_set(scope, "short", expected=None, value=5), "what is over is None to a comparison")
    memo.prune()
    hold(memo.get(scope, "short") == 5, "pruning leaves what lives")
    for wrong, error in ((object(), TypeError), ("x" * 2_000_000, ValueError)):
        try:
            memo.set(scope, "a", wrong)  # pyright: ignore[reportArgumentType] - what a user may do
        except error:
            continue
        raise AssertionError("what a memo cannot carry is refused")


def _artifacts(store: Store, name: str) -> None:
    artifacts, data = store.artifacts, f"{name}\ntwo".encode()
    first = artifacts.put(data, media_type="text/plain", run_id=f"{name}-1")
    hold(artifacts.put(data, media_type="a/b", run_id=f"{name}-2") == first, "the same content gets the same reference")
    hold((first.bytes, first.lines, first.media_type) == (len(data), 2, "text/plain"), "an artifact is described")
    hold(first.sha256 == hashlib.sha256(data).hexdigest() and artifacts.info(first.ref) == first, "it can be looked up")
    hold(artifacts.read(first.ref) == data and artifacts.read(first.ref, 1, 3) == data[1:4], "it can be read in part")
    hold(artifacts.read(first.ref, 10_000) == b"", "behind its end there is nothing")
    third = f"{name}-3{ODD}"
    artifacts.link(first.ref, third)
    artifacts.link(first.ref, third)
    own = artifacts.put(name.encode(), media_type="a/b", run_id=f"{name}-1")
    hold(artifacts.reclaim(f"{name}-1") == len(name), "only what no other run refers to is removed")
    hold(artifacts.reclaim(f"{name}-1") == 0, "what is reclaimed is reclaimed once")
    hold(artifacts.reclaim(f"{name}-2") == 0 and artifacts.read(first.ref) == data, "a linked artifact stays")
    hold(artifacts.reclaim(third) == len(data), "the last link keeps it")
    for missing in (own.ref, first.ref, "a-000000000000", ODD):
        uses: list[Callable[[str], object]] = [artifacts.info, artifacts.read, partial(artifacts.link, run_id=name)]
        for use in uses:
            try:
                use(missing)
            except StoreError:
                continue
            raise AssertionError("a missing artifact is a StoreError")
    again = artifacts.put(data, media_type="a/b", run_id=name)
    hold(artifacts.read(again.ref) == data, "what was removed can be put again")
    artifacts.put(b"", media_type="a/b", run_id=name)
    artifacts.sweep(before=time.time() + 1)
    hold(artifacts.read(again.ref) == data, "sweeping leaves what belongs to an artifact")
    artifacts.reclaim(name)


TEXTS = {
    "zh": "请告诉我数据库的连接方式。北京是中国的首都。",
    "ja": "東京タワーはとても高いです",
    "ko": "데이터베이스 연결이 실패했습니다",
    "de": "Die Straße nach München ist gesperrt; Datenbankverbindungen scheitern.",
    "en": "The database said ECONNREFUSED when read_artifact('x') was called",
    "odd": f"{ODD} naïve café",
}
FOUND = {
    "中国": "zh",
    "数据库": "zh",
    "首都在哪里": "zh",
    "京": "zh ja",
    "タワー": "ja",
    "연결": "ko",
    "strasse munchen": "de",
    "DATENBANK": "de",
    "econnrefused": "en",
    "read_artifact": "en",
    "Naive": "odd",
    "cafe\u0301": "odd",
    "nothing of it": "",
    "data": "en",
}
HARMLESS = (
    '"',
    'a" OR b* NEAR(x, 2)',
    "AND",
    "NOT",
    "*",
    "-x",
    ":",
    "a:b",
    "(",
    "{-}",
    "\\",
    "'",
    "%",
    "!&|",
    "<->",
    ODD,
)


def _search(store: Store, space: str) -> None:
    search = store.search
    hold(search.cursor(space) == 0 and search.find(space, "a") == [], "a new space is empty")
    search.add(space, TEXTS.items(), cursor=7)
    search.add(f"{space}-other", TEXTS.items())
    hold(search.cursor(space) == 7, "the cursor is remembered")
    for query, keys in FOUND.items():
        hits = search.find(space, query)
        hold({hit.key for hit in hits} == set(keys.split()), f"{query!r} finds {keys or 'nothing'}")
        hold(all(hit.text == TEXTS[hit.key] for hit in hits), "a hit has the text as it was given")
    for query in (*HARMLESS, "", "x" * 20_000, "中" * 20_000, " ".join(map(str, range(5000)))):
        search.find(space, query)
    ranked = [("one", "apple and pear"), ("both", "apple and banana"), *((f"{n}", f"filler {n}") for n in range(30))]
    search.add(space, ranked)
    hits = search.find(space, "Apple banana!")
    hold([hit.key for hit in hits] == ["both", "one"] and hits[0].score > hits[1].score, "the best hit comes first")
    hold(len(search.find(space, "filler", limit=3)) == 3, "`limit` is kept")
    search.add(space, [("both", "cherry ö")], cursor=8)
    search.add(space, [("both", "cherry ü"), ("both", "cherry")])
    hold([hit.text for hit in search.find(space, "cherry")] == ["cherry"], "a key that is there gets the new text")
    hold(search.find(space, "banana") == [] and search.cursor(space) == 8, "the old text is not found any more")
    search.forget(space, "on")
    search.forget(f"{space}-none", "")
    hold(search.find(space, "apple pear") == [] and search.cursor(space) == 8, "what begins with a prefix is taken out")
    hold([hit.text for hit in search.find(space, "cherry")] == ["cherry"], "what does not begin with it stays")
    search.drop(space)
    hold(search.find(space, "filler") == [] and search.cursor(space) == 0, "a space that is dropped is empty")
    hold(len(search.find(f"{space}-other", "京")) == 2, "spaces do not see one another")
    search.drop(f"{space}-other")
    search.drop(space)


def _transcripts(store: Store, name: str) -> None:
    transcripts, digest = store.transcripts, hashlib.sha256(b"x").hexdigest()
    hold(transcripts.length(name) == 0 and transcripts.read(name) == [], "a new transcript is empty")
    hold([transcripts.append(name, ODD, digest) for _ in range(3)] == [1, 2, 3], "positions count from 1")
    hold(transcripts.append(name, "b", digest, expected=4) == 4, "the next position may be expected")
    for wrong in (4, 6):
        try:
            transcripts.append(name, "b", digest, expected=wrong)
        except StoreConflict:
            continue
        raise AssertionError("another position than the next is StoreConflict")
    entries = transcripts.read(name, after=2)
    hold([entry.position for entry in entries] == [3, 4] and entries[0].author == ODD, "entries are read in order")
    hold(entries[0].digest == digest and transcripts.length(name) == 4, "entries come back as they were given")
    hold([entry.position for entry in transcripts.read(name, after=1, limit=2)] == [2, 3], "`limit` is kept")
    try:
        transcripts.append(name, "b", "no digest")
    except StoreError:
        pass
    else:
        raise AssertionError("what is no digest is a StoreError")
    hold(transcripts.participant(name, ODD) is None, "nothing is known of who was never saved")
    for state in (b"", b"\0two"):
        transcripts.save_participant(name, Participant(ODD, 3, state))
        hold(transcripts.participant(name, ODD) == Participant(ODD, 3, state), "a participant comes back as saved")


def _cache(store: Store, name: str) -> None:
    cache = store.cache
    hold(cache.get(name) is None, "what was not put is None")
    cache.put(f"{name}{ODD}", b"\0", ttl=1e6)
    cache.put(name, b"one")
    cache.put(name, b"two")
    hold(cache.get(name) == b"two" and cache.get(f"{name}{ODD}") == b"\0", "a value comes back as it was given")
    cache.put(name, b"three", ttl=0)
    hold(cache.get(name) is None, "a value lives as long as it was given")
    cache.put(f"{name}-a", b"x" * 100)
    cache.put(f"{name}-b", b"y" * 100)
    hold(cache.prune() >= 5, "pruning removes what is over, and tells how much")
    hold(cache.get(f"{name}-a") is not None, "pruning leaves what lives")
    hold(cache.prune(keep_bytes=150) >= 100, "pruning keeps to a size")
    hold(cache.get(f"{name}-a") is None and cache.get(f"{name}-b") == b"y" * 100, "the oldest is removed first")


def _rates(store: Store, name: str) -> None:
    rates = store.rates

    def take(cost: float, key: str = name) -> float:
        return rates.take(key, cost=cost, rate_per_minute=0.06, burst=10)  # 1,000 s a unit: no test is that slow

    hold(take(4) == take(6) == 0.0, "a burst may be taken at once")
    wait = take(2)
    hold(1900 < wait <= 2000, "when the burst is spent, the answer says how long it takes to have room again")
    hold(take(1) <= 1000, "a wait takes nothing")
    rates.give_back(name, cost=3, rate_per_minute=0.06)
    hold(take(2) == 0.0 and take(2) > 0, "what is given back can be taken again")
    hold(take(50, f"{name}-big") == 0.0, "a cost above the burst is taken when there is room for a whole burst")
    hold(40_900 < take(1, f"{name}-big") <= 41_000, "and is paid for afterwards")
    hold(take(0) == take(0, f"{name}{ODD}") == 0.0, "nothing costs nothing")
    rates.give_back(f"{name}-none", cost=3, rate_per_minute=0.06)
    for _ in range(2):
        rates.give_back(f"{name}-more", cost=100, rate_per_minute=0.06)
        hold(take(10, f"{name}-more") == 0.0 and take(1, f"{name}-more") > 0, "no more than a burst is ever there")
    for cost, rate, burst in ((-1, 1, 1), (1, 0, 1), (1, 1, 0), (float("nan"), 1, 1)):
        try:
            rates.take(name, cost=cost, rate_per_minute=rate, burst=burst)
        except ValueError:
            continue
        raise AssertionError("what is no rate is a ValueError")


def _approvals(store: Store, name: str) -> None:
    approvals = store.approvals
    asked = [
        ApprovalRow(f"{name}-{n}{ODD}", f"{name}{ODD}", f"{name}-{root}", 1.5 + n, b'{"n":%d}' % n)
        for n, root in ((1, "a"), (2, "a"), (3, "b"))
    ]
    hold(approvals.get(asked[0].id) is None, "a question that was not asked is not there")
    hold(not approvals.decide(asked[0].id, b"{}", 2.5), "and cannot be answered")
    for row in (*reversed(asked), replace(asked[0], created=9.5, request=b"{}")):
        approvals.put(row)
    hold(approvals.get(asked[0].id) == asked[0], "a question comes back as it was asked first")
    hold(approvals.find(run_id=f"{name}{ODD}") == asked, "the questions of a run are found, oldest first")
    hold(approvals.find(root_run_id=f"{name}-a") == asked[:2], "and those of a tree of runs")
    hold(approvals.find(root_run_id=f"{name}-a", limit=1) == asked[:1], "`limit` is kept")
    won = [approvals.decide(asked[0].id, b'{"approved":true}', 2.5), approvals.decide(asked[0].id, b"{}", 3.5)]
    hold(won == [True, False], "a question is answered once")
    answered = replace(asked[0], decision=b'{"approved":true}', decided=2.5)
    hold(approvals.get(asked[0].id) == answered, "the answer comes back as it was given")
    hold(approvals.find(run_id=f"{name}{ODD}", pending=True) == asked[1:], "what waits is found")
    hold(approvals.find(run_id=f"{name}{ODD}", pending=False) == [answered], "and what was decided")
    results: list[bool] = []
    together(*(lambda: results.append(approvals.decide(asked[1].id, b"{}", 4.5)) for _ in range(4)))
    hold(sorted(results) == [False, False, False, True], "of several answers exactly one is taken")
    approvals.put(replace(asked[2], id=f"{name}-other", run_id=f"{name}-other"))
    approvals.forget(f"{name}{ODD}")
    hold(approvals.find(run_id=f"{name}{ODD}") == [], "the questions of a run are forgotten")
    hold(len(approvals.find(run_id=f"{name}-other")) == 1, "and no others")


def _changes(store: Store, name: str) -> None:
    changes = store.changes
    hold(changes.read(f"{name}{ODD}") == {}, "nothing is kept of who was never seen")
    changes.write(f"{name}{ODD}", {"a": b"one", ODD: b"\0two", "gone": b""})
    changes.write(f"{name}{ODD}", {"a": b"three", "gone": None, "never": None})
    hold(changes.read(f"{name}{ODD}") == {"a": b"three", ODD: b"\0two"}, "values come back as they were written last")
    hold(changes.read(name) == {}, "owners do not see one another's")
    rows = tuple(
        EventRow(name, n, kind, 4e9 + n, ODD, b'{"n":%d}' % n, b"h" * 32)
        for n, kind in enumerate(("tools.changed", "warning", "prompt.changed", "model.changed", "policy.changed"), 1)
    )
    store.append(Batch(rows)).result()
    changed = [row for row in rows if row.type != "warning"]
    hold(changes.events(run_id=name) == changed, "what changed is found, oldest first, and nothing else")
    hold(changes.events(run_id=name, limit=2) == changed[2:], "`limit` keeps the latest")
    hold(changes.events(run_id=name, since=4e9 + 4) == changed[2:], "and is found by its time")
    hold(changes.events(run_id=name, agent=ODD) == changed, "and by the agent's name")
    hold(changes.events(run_id=name, agent=name) == [], "which is that name and no other")


PARTS: tuple[Callable[[Store, str], None], ...] = (
    _memo, _artifacts, _search, _transcripts, _cache, _rates, _approvals, _changes
)  # fmt: skip
