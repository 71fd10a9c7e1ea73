"""`visit_webpage`: what is fetched, what never is, and what of a page is read."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import random
import socket
import ssl
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.pages import Answer, Pages, serving

from wherry import open_store
from wherry.errors import ConfigurationError, MissingExtra, ToolError
from wherry.tools import Egress, ToolContext, use_context
from wherry.tools.builtin import VisitWebpage
from wherry.tools.fetching_addresses import AllowedPrivate, check_host, checked, refusal
from wherry.tools.fetching_unpacked import Unpacked

pytestmark = pytest.mark.anyio

HERE = ("127.0.0.1",)
LOREM = " ".join(["Wherries carried cargo on the Norfolk Broads for two centuries."] * 20)


def page(body: str, title: str = "Title") -> str:
    return f"<html><head><title>{title}</title></head><body>{body}</body></html>"


async def visit(url: str, **options: Any) -> str:
    options.setdefault("allow_private", HERE)
    return str(await VisitWebpage(**options).call({"url": url}))


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.100.100.200",
            "168.63.129.16", "192.0.0.192", "0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
            "198.18.0.1", "203.0.113.9", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1",
            "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:101::1", "2001::1", "2001:db8::1",
            "::ffff:0:127.0.0.1", "::5efe:127.0.0.1", "1::1", "4000::1", "3fff::1", "8000::1", "c000::1", "e000::1",
        ],
    )  # fmt: skip
    def test_never(self, address: str) -> None:
        assert refusal(ipaddress.ip_address(address))
        with pytest.raises(ToolError, match="not fetched from"):
            checked("page.test", [address], AllowedPrivate())

    @pytest.mark.parametrize(
        "address",
        ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1", "2002:101:101::"],
    )
    def test_public(self, address: str) -> None:
        assert refusal(ipaddress.ip_address(address)) is None
        assert checked("page.test", [address], AllowedPrivate())

    @given(st.ip_addresses(v=4))
    def test_every_way_to_write_an_address_is_judged_alike(self, address: ipaddress.IPv4Address) -> None:
        number = int(address)
        plain = refusal(address) is None
        for written in (
            f"::ffff:{address}",
            str(ipaddress.IPv6Address(int(ipaddress.ip_address("64:ff9b::")) | number)),
        ):
            assert (refusal(ipaddress.ip_address(written)) is None) == plain
        assert (refusal(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))) is None) == plain

    @given(st.ip_addresses(v=4), st.sampled_from(["decimal", "hex", "octal", "short", "padded"]))
    def test_disguises_are_refused(self, address: ipaddress.IPv4Address, form: str) -> None:
        a, b, c, d = address.packed
        written = {
            "decimal": str(int(address)),
            "hex": hex(int(address)),
            "octal": f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
            "short": f"{a}.{b}.{c * 256 + d}",
            "padded": f"{a:03d}.{b:03d}.{c:03d}.0{d:03d}",
        }[form]
        with pytest.raises(ToolError, match="unusual spelling"):
            check_host(written)

    @pytest.mark.slow
    @given(st.lists(st.ip_addresses(), min_size=1, max_size=4))
    def test_one_bad_address_spoils_all(self, addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
        with pytest.raises(ToolError):
            checked("page.test", [*map(str, addresses), "127.0.0.1"], AllowedPrivate())

    def test_what_is_allowed(self) -> None:
        allowed = AllowedPrivate(("127.0.0.1", "10.1.0.0/16"))
        assert checked("a", ["127.0.0.1", "10.1.2.3", "::ffff:127.0.0.1"], allowed)
        for other in ("127.0.0.2", "10.2.0.1"):
            with pytest.raises(ToolError):
                checked("a", [other], allowed)

    @pytest.mark.parametrize("wrong", ["127.0.0.1", ("localhost",), ("10.0.0.0/33",), (5.0,)])
    def test_what_cannot_be_allowed(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="allow_private"):
            VisitWebpage(allow_private=wrong)


class TestWhatIsNotAsked:
    @pytest.mark.parametrize(
        "url",
        [
            "file:///etc/passwd", "ftp://example.org/x", "gopher://example.org/", "data:text/html,hi", "javascript:1",
            "example.org", "//example.org/x", "http://", "http:///x", "http://user:word@example.org/",
            "http://example.org\\@evil.test/", "http://exa mple.org/", "http://example.org/\r\nHost: evil", "http://[::1",
            "http://example.org:99999/", "http://example.org:25/", "http://example.org:22/", "http://0x7f000001/",
            "http://2130706433/", "http://0177.0.0.1/", "http://127.1/", "http://[fe80::1%25eth0]/", "http://\uff11\uff12\uff17.1/",
            "http://example.org/" + "a" * 5_000,
        ],
    )  # fmt: skip
    async def test_no_address(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def resolve(*_: object, **__: object) -> None:
            raise AssertionError("nothing may be looked up")

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with pytest.raises(ToolError):
            await visit(url)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
    async def test_this_machine(self, host: str) -> None:
        with serving({"/": Answer("secret")}) as site:
            with pytest.raises(ToolError, match="not fetched from"):
                await visit(site.url("/", host), allow_private=())
            assert site.asked == []

    async def test_a_redirect_to_this_network(self) -> None:
        with serving({}) as inner:
            targets = {
                "/a": inner.url("/", "127.0.0.2"),
                "/b": "http://169.254.169.254/latest/meta-data/",
                "/c": "file:///etc/passwd",
                "/d": "http://[::ffff:169.254.169.254]/",
                "/e": "http://2852039166/",
                "/f": "//0xa9fea9fe/",
            }
            pages: Pages = {path: Answer(status=302, headers={"Location": to}) for path, to in targets.items()}
            with serving(pages) as site:
                for path in targets:
                    with pytest.raises(ToolError):
                        await visit(site.url(path))
            assert inner.asked == []

    async def test_a_name_that_is_resolved_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first answer is looked at, and connected to; a second one is never asked for."""
        answers = iter(["127.0.0.1", "127.0.0.9", "127.0.0.9"])
        plain = socket.getaddrinfo

        def resolve(host: str, port: int, *rest: Any, **more: Any) -> Any:
            return plain(next(answers) if host == "page.test" else host, port, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with serving({"/": Answer(page("<p>hello</p>"))}) as site:
            assert "hello" in await visit(site.url("/", "page.test"), robots=False)
            assert site.asked[0][1]["host"] == f"page.test:{site.port}"
            with pytest.raises(ToolError, match=r"127\.0\.0\.9"):
                await visit(site.url("/", "page.test"), robots=False)

    async def test_a_name_with_a_public_and_a_private_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in ("93.184.215.14", "10.0.0.1")]

        def resolve(*_: object, **__: object) -> object:
            return found

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with pytest.raises(ToolError, match=r"10\.0\.0\.1"):
            await visit("http://page.test/")

    async def test_hosts(self) -> None:
        with serving(
            {"/": Answer(page("<p>hello</p>")), "/away": Answer(status=301, headers={"Location": "http://b.test/"})}
        ) as site:
            assert "hello" in await visit(site.url(), egress=[f"127.0.0.1:{site.port}"])
            with pytest.raises(ToolError, match="not among those"):
                await visit(site.url(), egress=["*.example.org"])
            with pytest.raises(ToolError, match=r"b\.test"):
                await visit(site.url("/away"), egress=["127.0.0.1"])
            store = open_store("memory://")
            with (
                use_context(ToolContext("r", "a", None, store, egress=(Egress(["example.org"]),))),
                pytest.raises(ToolError, match="not among"),
            ):
                await visit(site.url())


class TestHowMuch:
    async def test_a_large_page_is_cut(self) -> None:
        with serving({"/": Answer("x" * 100_000, media_type="text/plain")}) as site:
            text = await visit(site.url(), max_bytes=1_000)
        assert text.count("x") <= 1_000 + 3
        assert "[cut: the page is larger than 1,000 bytes]" in text

    async def test_a_page_without_end_is_cut(self) -> None:
        def endless(handler: BaseHTTPRequestHandler) -> Answer:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/plain")
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(b"q" * 65_536)
            except OSError:
                return Answer()

        with serving({"/": endless}) as site:
            assert (await visit(site.url(), max_bytes=100_000, robots=False)).count("q") == 100_000

    @pytest.mark.slow
    @pytest.mark.parametrize("packed", ["gzip", "deflate", "raw"])
    async def test_a_bomb_is_cut(self, packed: str) -> None:
        data = b"z" * 50_000_000
        raw = zlib.compressobj(wbits=-15)
        bodies = {"gzip": gzip.compress(data), "deflate": zlib.compress(data), "raw": raw.compress(data) + raw.flush()}
        headers = {"Content-Encoding": "gzip" if packed == "gzip" else "deflate"}
        with serving({"/": Answer(bodies[packed], headers=headers, media_type="text/plain")}) as site:
            text = await visit(site.url(), max_bytes=10_000)
        assert text.count("z") == 10_000

    async def test_what_is_packed_otherwise(self) -> None:
        answer = Answer(b"??", headers={"Content-Encoding": "br"})
        with serving({"/": answer}) as site, pytest.raises(ToolError, match="not asked for"):
            await visit(site.url())

    @pytest.mark.parametrize(
        "body",
        [b"no gzip", gzip.compress(b"some text", mtime=0)[:-8] + bytes(8)],  # the time would be part of the test's name
        ids=["none", "wrong sum"],
    )
    async def test_a_damaged_pack(self, body: bytes) -> None:
        answer = Answer(body, headers={"Content-Encoding": "gzip"}, media_type="text/plain")
        with serving({"/": answer}) as site, pytest.raises(ToolError, match="unpacked"):
            await visit(site.url())

    async def test_two_packs_in_one_header_and_in_two(self) -> None:
        body = gzip.compress(gzip.compress(b"hello"))
        for headers in ({"Content-Encoding": "gzip, gzip"}, {"Content-Encoding": "gzip", "content-encoding": "gzip"}):
            answer = Answer(body, headers=headers)
            with serving({"/": answer}) as site, pytest.raises(ToolError, match="'gzip, gzip', which was not asked"):
                await visit(site.url(), robots=False)

    @given(
        st.lists(st.binary(max_size=400), min_size=1, max_size=4),
        st.sampled_from(["", "gzip", "deflate", "bare"]),
        st.integers(1, 700),
        st.integers(1, 50),
    )
    def test_what_is_unpacked_is_what_was_packed(self, parts: list[bytes], how: str, most: int, size: int) -> None:
        data = b"".join(parts)
        bare = zlib.compressobj(wbits=-15)
        packed = {
            "": data,
            "gzip": b"".join(map(gzip.compress, parts)),  # several in a row are one
            "deflate": zlib.compress(data),
            "bare": bare.compress(data) + bare.flush(),
        }[how]
        found = Unpacked("deflate" if how == "bare" else how, most)
        for start in range(0, len(packed), size):
            if not found.take(packed[start : start + size]):
                break
        assert found.all() == data[:most]
        assert bool(found.cut) == (len(data) > most)

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_a_pack_that_ends_too_early_is_told(self, encoding: str) -> None:
        words = b" ".join(str(number).encode() for number in range(20_000))
        packed = gzip.compress(words) if encoding == "gzip" else zlib.compress(words)
        for body, said in (
            (packed[: len(packed) // 2], "[cut: the page ends in the middle of what was packed]"),
            (packed + b"\0" * 40, "19999"),
        ):
            answer = Answer(body, headers={"Content-Encoding": encoding}, media_type="text/plain")
            with serving({"/": answer}) as site:
                text = await visit(site.url())
            assert "\n\n0 1 2 3 " in text
            assert text.endswith(said)

    async def test_a_redirect_with_letters_of_no_address(self) -> None:
        pages: Pages = {"/caf%C3%A9%20au%20lait": Answer(page("<p>found</p>"))}
        where = "/caf\xe9 au lait ".encode().decode("latin-1")
        pages["/"] = Answer(status=302, headers={"Location": where})
        with serving(pages) as site:
            assert "found" in await visit(site.url(), robots=False)

    async def test_redirects(self) -> None:
        def onward(handler: BaseHTTPRequestHandler) -> Answer:
            return Answer(status=302, headers={"Location": f"/{int(handler.path[1:]) + 1}"})

        with serving({"*": onward, "/3": Answer(page("<p>at last</p>"))}) as site:
            assert "at last" in await visit(site.url("/1"), robots=False)
            with pytest.raises(ToolError, match="more than 1 times"):
                await visit(site.url("/1"), robots=False, max_redirects=1)
            with pytest.raises(ToolError, match="more than 5 times"):
                await visit(site.url("/4"), robots=False)

    async def test_a_server_that_says_nothing(self) -> None:
        done = threading.Event()

        def silent(_: BaseHTTPRequestHandler) -> Answer:
            done.wait(30)
            return Answer()

        with serving({"*": silent}) as site:
            try:
                with pytest.raises(ToolError, match=r"within 0\.2 s"):
                    await visit(site.url(), seconds=0.2)
            finally:
                done.set()

    async def test_nobody_there(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            with pytest.raises(ToolError, match="could not be fetched"):
                await visit(f"http://127.0.0.1:{free.getsockname()[1]}/")

    async def test_what_is_no_http(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def talk() -> None:
                with server.accept()[0] as client:
                    client.recv(100)
                    client.sendall(b"220 mail ready\r\n")

            thread = threading.Thread(target=talk)
            thread.start()
            with pytest.raises(ToolError, match="could not be fetched"):
                await visit(f"http://127.0.0.1:{server.getsockname()[1]}/")
            thread.join()

    async def test_cancelled(self) -> None:
        asked, done = threading.Event(), threading.Event()

        def silent(_: BaseHTTPRequestHandler) -> Answer:
            asked.set()
            done.wait(30)
            return Answer()

        with serving({"*": silent}) as site:
            task = asyncio.create_task(visit(site.url()))
            await asyncio.to_thread(asked.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            done.set()

    @pytest.mark.parametrize(
        "wrong", [{"max_bytes": 0}, {"seconds": 0}, {"max_redirects": -1}, {"egress": "a.b"}, {"egress": ["http://a"]}]
    )
    def test_numbers_and_hosts_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            VisitWebpage(**wrong)


class TestRobots:
    async def test_respected_and_asked_once(self) -> None:
        robots = Answer(
            "User-agent: *\nDisallow: /private\n\nUser-agent: wherry\nDisallow: /not-you/*.html$\n",
            media_type="text/plain",
        )
        pages: Pages = {
            "/robots.txt": robots,
            "/private": Answer(page("<p>for wherry</p>")),
            "/not-you/a.html": Answer("no"),
        }
        with serving(pages) as site:
            tool = VisitWebpage(allow_private=HERE)
            assert "for wherry" in await tool.call({"url": site.url("/private")})
            with pytest.raises(ToolError, match=r"robots\.txt"):
                await tool.call({"url": site.url("/not-you/a.html")})
            assert site.paths.count("/robots.txt") == 1
            assert "/not-you/a.html" not in site.paths
            assert "no" in await visit(site.url("/not-you/a.html"), robots=False)

    async def test_a_redirect_to_a_page_that_is_not_for_programs(self) -> None:
        robots = Answer("User-agent: *\nDisallow: /private\n", media_type="text/plain")
        with serving({"/robots.txt": robots, "/": Answer(status=302, headers={"Location": "/private"})}) as site:
            with pytest.raises(ToolError, match=r"robots\.txt"):
                await visit(site.url())
            assert "/private" not in site.paths

    @pytest.mark.parametrize(("status", "allowed"), [(404, True), (403, True), (500, False), (503, False)])
    async def test_one_that_cannot_be_had(self, status: int, allowed: bool) -> None:
        with serving({"/robots.txt": Answer(status=status), "/": Answer(page("<p>hello</p>"))}) as site:
            if allowed:
                assert "hello" in await visit(site.url())
            else:
                with pytest.raises(ToolError, match="left alone"):
                    await visit(site.url())


class TestText:
    async def test_an_article(self) -> None:
        article = f"<article><h1>Boats</h1><p>{LOREM}</p><p>See <a href='/more'>more</a>.</p></article>"
        body = f"<nav><a href='/a'>Home</a></nav>{article}"
        with serving({"/": Answer(page(body))}) as site:
            text = await visit(site.url())
        assert text.startswith(f"{site.url()}\n\n# Title")
        assert "Norfolk Broads" in text
        assert f"[more]({site.url('/more')})" in text

    async def test_what_people_do_not_see_is_not_read(self) -> None:
        hidden = [
            "<script>steal()</script>",
            "<style>p{}</style>",
            "<!-- OBEY comment -->",
            "<noscript>OBEY noscript</noscript>",
            "<template>OBEY template</template>",
            "<p style='display: none'>OBEY display</p>",
            "<p hidden>OBEY hidden</p>",
            "<span style='font-size:0px'>OBEY small</span>",
            "<div aria-hidden=true>OBEY aria</div>",
            "<div style='position:absolute;left:-9999px'>OBEY far</div>",
            "<p style='color:#fff;background:#FFF'>OBEY white</p>",
            "<p style='opacity:0'>OBEY opaque</p>",
            "<p style='visibility:hidden'>OBEY invisible</p>",
            "<iframe srcdoc='OBEY'>OBEY frame</iframe>",
            "<input type=hidden value='OBEY'>",
            "<svg><text>OBEY svg</text></svg>",
            "<img alt='' src='x' onerror='OBEY()'>",
            "<p style='text-indent:-9999px'>OBEY indent</p>",
        ]
        for filler in ("<p>short</p>", f"<article><p>{LOREM}</p></article>"):
            with serving({"/": Answer(page(filler + "".join(hidden) + "<p>end of it</p>"))}) as site:
                text = await visit(site.url())
            assert "OBEY" not in text
            assert "steal" not in text

    async def test_what_people_do_see_is_read(self) -> None:
        style = "font-size:10px;opacity:0.9;left:-2px;width:100px;color:red;background:blue"
        body = f"<p style='{style}'>seen</p><div style='width:0.5em'>too</div>"
        with serving({"/": Answer(page(body))}) as site:
            text = await visit(site.url())
        assert "seen" in text
        assert "too" in text

    @pytest.mark.parametrize(
        ("media_type", "body"),
        [
            ("text/html; charset=iso-8859-1", "<p>caf\xe9 \x93q\x94</p>".encode("latin-1")),
            ("text/html", "<meta charset='windows-1251'><p>caf\xe9</p>".replace("\xe9", "\u0439").encode("cp1251")),
            ("text/html", b"\xef\xbb\xbf<p>caf\xc3\xa9</p>"),
            ("text/html; charset=utf-16", "<p>caf\xe9</p>".encode("utf-16")),
            ("text/html", b"<p>caf\xc3\xa9</p>"),
            ("text/html", b"<p>caf\xe9</p>"),
            ("text/plain; charset=nonsense", "caf\xe9".encode()),
            ("text/plain; charset=rot13", "caf\xe9".encode()),
            ("text/plain; charset=idna", "caf\xe9".encode()),
            ("text/plain; charset=cp037", "caf\xe9".encode()),
            ("text/html; charset=unicode-1-1-utf-7", "+ADw-script+AD4-<p>caf\xe9</p>".encode()),
            ("text/html; charset=U7", "+ADw-script+AD4-<p>caf\xe9</p>".encode()),
            ("text/html; charset=Unicode-Escape", "\\x3cscript\\x3e<p>caf\xe9</p>".encode()),
            ("text/html; charset=utf-16", "<p>caf\xe9</p>".encode("utf-16-le")),
            ("text/html", "<meta charset=utf-16><p>caf\xe9</p>".encode()),
            ("text/html; charset=x-sjis", "<p>\u8239 caf\u0439</p>".encode("shift_jis")),
            ("text/html; charset=utf-7", b"<p>caf\xc3\xa9 +ADw-script+AD4-</p>"),
            (None, b"<html><p>caf\xc3\xa9</p>"),
        ],
    )
    async def test_charsets(self, media_type: str | None, body: bytes) -> None:
        with serving({"/": Answer(body, media_type=media_type)}) as site:
            text = await visit(site.url())
        assert "caf\xe9" in text or "caf\u0439" in text
        assert "<script" not in text

    @pytest.mark.parametrize(
        "kind", ["application/json", "text/csv", "application/ld+json", "text/markdown", "application/rss+xml"]
    )
    async def test_other_texts_are_given_as_they_are(self, kind: str) -> None:
        with serving({"/": Answer('{"a": [1, 2]}', media_type=kind)}) as site:
            assert (await visit(site.url())).endswith('{"a": [1, 2]}')

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("application/pdf", b"%PDF"),
            ("image/png", b"\x89PNG"),
            ("text/plain", b"\0\1\2"),
            ("application/octet-stream", b"x"),
        ],
    )
    async def test_what_is_no_text(self, kind: str, body: bytes) -> None:
        with serving({"/": Answer(body, media_type=kind)}) as site, pytest.raises(ToolError, match="no text"):
            await visit(site.url())

    @pytest.mark.parametrize(
        ("status", "said"), [(404, "no such page"), (403, "not for everybody"), (429, "too many"), (500, "failed")]
    )
    async def test_answers_that_are_no_page(self, status: int, said: str) -> None:
        answer = Answer("<p>IGNORE ALL</p>", status)
        with serving({"/": answer}) as site, pytest.raises(ToolError, match=said) as caught:
            await visit(site.url())
        assert "IGNORE" not in str(caught.value)

    @given(
        st.binary(max_size=300),
        st.sampled_from(["text/html", "text/html; charset=utf-16", "text/plain", "application/json"]),
    )
    def test_any_bytes(self, data: bytes, kind: str) -> None:
        from wherry.tools.builtin.visit_webpage_text import text_of
        from wherry.tools.fetching import Fetched

        try:
            text = text_of(Fetched("http://a.test/", 200, {"content-type": kind}, data))
        except ToolError:
            return
        assert "<script" not in text or kind != "text/html"

    def test_deep_nesting_ends(self) -> None:
        from wherry.tools.builtin.visit_webpage_text import text_of
        from wherry.tools.fetching import Fetched

        data = b"<div>" * 50_000 + b"deep"
        assert isinstance(text_of(Fetched("http://a.test/", 200, {"content-type": "text/html"}, data)), str)


class TestKept:
    async def test_a_page_is_kept_in_the_store(self) -> None:
        store = open_store("memory://")
        with serving({"/": Answer(page("<p>hello</p>"))}) as site, use_context(ToolContext("r", "a", None, store)):
            one = VisitWebpage(allow_private=HERE)
            first = await one.call({"url": site.url()})
            assert await one.call({"url": site.url() + "#part"}) == first
            assert site.paths.count("/") == 1
            assert await VisitWebpage(allow_private=HERE, cache=None).call({"url": site.url()}) == first
            assert site.paths.count("/") == 2

    async def test_what_one_may_read_is_not_given_to_another(self) -> None:
        store = open_store("memory://")
        with serving({"/": Answer(page("<p>hello</p>"))}) as site, use_context(ToolContext("r", "a", None, store)):
            await visit(site.url())
            with pytest.raises(ToolError, match="not fetched from"):
                await visit(site.url(), allow_private=())

    async def test_failures_are_not_kept(self) -> None:
        store = open_store("memory://")
        with serving({"/": Answer("", 500)}) as site, use_context(ToolContext("r", "a", None, store)):
            for _ in range(2):
                with pytest.raises(ToolError):
                    await visit(site.url())
            assert site.paths.count("/") == 2


class TestTLS:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "page.test")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(random.getrandbits(64))
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("page.test")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path / "cert.pem"
        path.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    async def test_the_name_stays_although_an_address_is_connected_to(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = socket.getaddrinfo

        def resolve(host: str, *rest: Any, **more: Any) -> Any:
            return plain("127.0.0.1" if host.endswith(".test") else host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        heard: list[str | None] = []
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate)
        server.sni_callback = lambda _, name, __: heard.append(name)
        trust = ssl.create_default_context(cafile=str(certificate))
        with serving({"/": Answer(page("<p>over TLS</p>"))}, tls=server) as site:
            text = await visit(site.url("/", "page.test", "https"), trust=trust, robots=False)
            assert "over TLS" in text
            assert heard == ["page.test"]
            assert site.asked[0][1]["host"] == f"page.test:{site.port}"
            for host, store in (("other.test", trust), ("page.test", None)):  # a wrong name; nobody vouches for it
                with pytest.raises(ToolError, match=r"(?i)certificate"):
                    await visit(site.url("/", host, "https"), trust=store, robots=False)


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpcore2", None)
    with pytest.raises(MissingExtra, match=r"wherry\[web\]"):
        await visit("http://127.0.0.1/")
