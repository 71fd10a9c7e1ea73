"""Several who decide about one call at the same time: one decision stands, the others are told so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wherry.errors import ApprovalError
from wherry.policy.approvals import Approval, Decision, Kind, ask, decide, find_approval
from wherry.policy.versions import approved_text
from wherry.store import open_store

DECIDERS = 6


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{tmp_path}/w.db"


def question(url: str, id: str, kind: Kind = "approval") -> str:
    store = open_store(url)
    asked = Approval(id, "r", "r", "a", "1", "pay", {}, "d", "?", kind, 1.0, tool_digest="t", text="what it is")
    ask(store, asked)
    store.close()
    return id


@pytest.mark.parametrize("kind", ["approval", "changed_tool"])
def test_one_of_several_in_a_process_gets_through(url: str, kind: Kind) -> None:
    stores = [open_store(url) for _ in range(DECIDERS)]
    for round in range(10):
        id = question(url, f"ap-{round:016x}", kind)
        start, through, refused = threading.Barrier(DECIDERS), list[str](), list[str]()

        def one(
            number: int,
            id: str = id,
            start: threading.Barrier = start,
            through: list[str] = through,
            refused: list[str] = refused,
        ) -> None:
            start.wait(30)
            try:
                decide(stores[number], id, Decision(number % 2 == 0, by=f"p{number}"))
                through.append(f"p{number}")
            except ApprovalError as error:
                refused.append(error.message)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(DECIDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        stands = find_approval(stores[0], id).decision
        assert stands is not None
        assert through == [stands.by]
        assert len(refused) == DECIDERS - 1
        assert all(f"already by {stands.by}" in said for said in refused)
        if kind == "changed_tool" and not stands.approved and round == 0:
            assert approved_text(stores[0], "a", "pay") == ""
    for store in stores:
        store.close()


@pytest.mark.slow
def test_one_of_several_processes_gets_through(url: str) -> None:
    id = question(url, "ap-00000000000000aa")
    environment, words = {**os.environ, "WHERRY_STORE": url}, ("approve", "deny")
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "wherry", words[number % 2], id, "--reason", str(number), "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    said = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert sorted(code for *_, code in said) == [0, 1, 1]
    assert all("already" in out + errors for out, errors, code in said if code)
    [won] = [json.loads(out)["decision"] for out, _, code in said if not code]
    store = open_store(url)
    stands = find_approval(store, id).decision
    store.close()
    assert stands is not None
    assert (stands.reason, stands.approved) == (won["reason"], won["approved"])
