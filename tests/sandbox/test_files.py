"""Files in and out of the work folder, of which hostile code is the author."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import SandboxError
from wherry.sandbox import Execution, Sandbox, Session
from wherry.sandbox.files import MAX_FILES, WorkFolder, shown
from wherry.sandbox.media_types import media_type

pytestmark = pytest.mark.anyio
Run = Callable[[str], Coroutine[Any, Any, Execution]]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return None


async def names(session: Session) -> list[str]:
    return [file.name for file in (await session.collect_files()).files]


async def test_new_and_changed_files_come_out_once(session: Session, run: Run) -> None:
    await run("import os\nos.makedirs('a/b')\nopen('a/b/deep.txt','w').write('deep')\nopen('x.csv','w').write('a,b')")
    found = (await session.collect_files()).files
    assert [(file.name, file.data, file.media_type) for file in found] == [
        ("a/b/deep.txt", b"deep", "text/plain"),
        ("x.csv", b"a,b", "text/csv"),
    ]
    assert not await session.collect_files()
    await run("open('x.csv','a').write('!')")
    assert await names(session) == ["x.csv"]
    await run("os.remove('x.csv')")
    assert await names(session) == []
    await run("open('x.csv','w').write('a,b!')")
    assert await names(session) == ["x.csv"]


async def test_files_that_were_given_come_out_only_if_they_changed(jail: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text("same")
    (tmp_path / "other.txt").write_text("other")
    session = await jail.open(tools=[], files=[tmp_path / "same.txt", tmp_path / "other.txt"])
    await session.run("open('other.txt','w').write('OTHER')", call_tool=answer)
    assert await names(session) == ["other.txt"]
    await session.close()


@pytest.mark.slow
async def test_files_come_out_of_a_session_that_was_killed(session: Session) -> None:
    code = "import itertools\nopen('kept.txt','w').write('kept')\n-1 in itertools.count()"
    assert (await session.run(code, call_tool=answer)).kind == "timeout"
    assert not session.alive
    assert [file.data for file in (await session.collect_files()).files] == [b"kept"]
    await session.close()
    assert not await session.collect_files()


async def test_only_regular_files_are_read_and_no_link_is_followed(session: Session, run: Run) -> None:
    made = await run(
        """
import os, socket
os.mkdir('folder')
open('folder/real.txt','w').write('1')
os.symlink('/etc', 'etc'); os.symlink('/etc/passwd', 'passwd'); os.symlink('folder', 'again')
os.symlink('loop', 'loop'); os.symlink('..', 'up'); os.symlink('folder/real.txt', 'link.txt')
os.link('folder/real.txt', 'hard.txt')
try: os.mkfifo('pipe')
except OSError: pass
"""
    )
    assert made.ok, made.error
    found = await session.collect_files()
    assert [file.data for file in found.files] == [b"1"]
    assert {left.name for left in found.left_out} <= {"etc", "passwd", "again", "loop", "up", "link.txt", "pipe"}
    assert len(found.left_out) >= 6


async def test_pipes_sockets_and_devices_do_not_hold_the_reader_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found = WorkFolder(folder).collect()
    os.close(folder)
    assert found.files == ()
    assert [left.name for left in found.left_out] == ["link", "pipe"]


async def test_a_link_in_the_way_is_not_followed_when_it_comes_later(tmp_path: Path) -> None:
    """The folder is listed, then a part of the path becomes a link to somewhere else."""
    from wherry.sandbox.files import open_beneath

    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/sub").symlink_to(tmp_path / "outside")
    folder = os.open(tmp_path / "inside", os.O_RDONLY | os.O_DIRECTORY)
    for path in ("sub/secret", "../outside/secret", str(tmp_path / "outside/secret"), "sub"):
        with pytest.raises(OSError, match=r"symbolic|cross-device|Not a directory"):
            os.close(open_beneath(folder, path))
    os.close(folder)


async def test_many_files_are_survived_and_counted(session: Session, run: Run) -> None:
    await run("for n in range(1500): open(f'{n:04}','w').write('x')")
    found = await session.collect_files()
    assert len(found.files) == MAX_FILES
    assert found.left_out[-1].name == f"{1500 - MAX_FILES - len(found.left_out) + 1:,} more"
    assert not await session.collect_files()


async def test_ten_thousand_files_are_survived(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / str(number)).touch()
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found = WorkFolder(folder).collect()
    os.close(folder)
    assert len(found.files) == MAX_FILES
    assert len(found.left_out) <= 20


async def test_large_and_sparse_files_are_left_out(session: Session, run: Run) -> None:
    await run("f = open('sparse','wb'); f.truncate(60 << 20); f.close()\nopen('small','wb').write(b'1')")
    found = await session.collect_files()
    assert [file.name for file in found.files] == ["small"]
    assert [(left.name, left.reason) for left in found.left_out] == [("sparse", "62,914,560 bytes are too many")]


async def test_files_of_holes_cost_a_session_no_more_than_its_disk(session: Session, run: Run) -> None:
    sizes: list[int] = []
    reasons: list[str] = []
    for number in range(4):
        await run(f"for n in 'ab':\n    with open(n, 'wb') as f: f.seek((20 << 20) + {number}); f.write(b'1')")
        found = await session.collect_files()
        sizes += [len(file.data) for file in found.files]
        reasons += [left.reason for left in found.left_out]
    assert 40 << 20 < sum(sizes) <= 64 << 20
    assert "of this session's" in reasons[0]
    await run("open('small', 'w').write('1')")
    assert await names(session) == ["small"]


async def test_large_files_are_read_beside_the_loop_and_survive_a_close(session: Session, run: Run) -> None:
    await run("for n in range(8): open(str(n), 'wb').write(bytes([n]) * (3 << 20))")
    reading = asyncio.create_task(session.collect_files())
    await asyncio.sleep(0)
    assert not reading.done()  # the loop goes on meanwhile
    await session.close()
    assert [file.data[:1] for file in (await reading).files] == [bytes([n]) for n in range(8)]


async def test_odd_names_are_survived(session: Session, run: Run) -> None:
    await run(
        "import os\n"
        "for name in (b'\\xff\\xfe', b'new\\nline', b'esc\\x1b[31m', b'-rf', b'~', 'ünï'.encode(), b'x' * 255):\n"
        "    open(name, 'w').write('1')\n"
        "path = '.'\n"
        "for _ in range(900): os.mkdir('d'); os.chdir('d')\n"
        "open('bottom','w').write('1')"
    )
    found = await names(session)
    assert {"new\ufffdline", "esc\ufffd[31m", "-rf", "~", "ünï"} <= set(found)
    assert all(name.isprintable() and len(name) <= 200 for name in found)


async def test_caches_are_no_results(session: Session, run: Run) -> None:
    await run("import os\nfor d in ('.cache', '__pycache__'): os.mkdir(d); open(d + '/x', 'w').write('1')")
    assert not await session.collect_files()


async def test_a_file_that_cannot_be_put_in_is_said(jail: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(2100):  # more than a session may have
        (tmp_path / "a" / str(number)).touch()
    with pytest.raises(SandboxError, match="could not be put into the sandbox"):
        await jail.open(tools=[], files=[tmp_path / "a"])


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("plot", PNG, "image/png"),
        ("plot.png", b"<html>", "text/plain"),
        ("plot.png", b"\0\1", "application/octet-stream"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("a.svg", b"<svg xmlns='x'/>", "image/svg+xml"),
        ("a.html", b"<p>", "text/html"),
        ("a.csv", b"1,2", "text/csv"),
        ("a.json", b"{}", "application/json"),
        ("a.md", b"# x", "text/markdown"),
        ("a", "é".encode() * 5000, "text/plain"),
        ("a", b"a" + "é".encode() * 5000, "text/plain"),
        ("a.zip", b"PK\3\4\0", "application/zip"),
        ("a.bin", b"\0", "application/octet-stream"),
        ("empty.txt", b"", "text/plain"),
    ],
)
def test_media_types(name: str, data: bytes, kind: str) -> None:
    assert media_type(name, data) == kind


def test_a_name_is_shown_in_bounds() -> None:
    assert len(shown("a/" * 2000)) <= 200
    assert shown("plain.txt") == "plain.txt"
