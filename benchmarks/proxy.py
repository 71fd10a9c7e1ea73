"""What `wherry guard` costs: added latency, requests per second, and memory after 10,000 requests.

    python benchmarks/proxy.py

An instant upstream, the proxy and the load are three processes on loopback; the same load goes straight to the upstream
beside it. Medians of several rounds, taken in turns, since other work on the machine comes and goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROUNDS = 5
WORDS = "Some words of an ordinary conversation, as people write them to a model. "
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 16, "total_tokens": 316},
}
CHUNK = {**REPLY, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "word "}}]}


def body(turns: int, *, stream: bool = False, talk: int = 0) -> bytes:
    """A request of so many turns, of one of several conversations."""
    messages = [{"role": "system", "content": f"You are a helper. This is talk {talk}."}]
    messages += [{"role": "assistant" if n % 2 else "user", "content": f"{n}: {WORDS * 2}"} for n in range(turns)]
    return json.dumps({"model": "gpt-4o-mini", "messages": messages, "max_tokens": 256, "stream": stream}).encode()


class Instant(asyncio.Protocol):
    """An upstream that answers as soon as it has read a request. Written without a framework, to take no time."""

    whole = json.dumps(REPLY).encode()
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(whole), whole)
    events = b"data: %b\n\n" % json.dumps(CHUNK).encode() * 20 + b"data: [DONE]\n\n"
    stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (
        len(events),
        events,
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            found = re.search(rb"content-length: *(\d+)", self.data[:end], re.IGNORECASE)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self.data) < size:
                return
            asked, self.data = self.data[:size], self.data[size:]
            self.transport.write(self.stream if b'"stream": true' in asked else self.whole)


async def instant() -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def load(port: int, bodies: Sequence[bytes], clients: int, many: int) -> tuple[float, list[float]]:
    """Seconds for all requests, and of each."""
    took: list[float] = []
    left = iter(range(many))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for number in left:
            data = bodies[number % len(bodies)]
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer sk-bench-1\r\n"
            )
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            started = time.perf_counter()
            writer.write(head.encode() + data)
            answered = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 " in answered[:20], answered
            if b"chunked" in answered:
                while (size := int(await reader.readline(), 16)) or await reader.readexactly(2) != b"\r\n":
                    await reader.readexactly(size + 2)
            else:
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", answered)[1]))
            took.append(time.perf_counter() - started)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - started, took


@contextmanager
def process(*command: str, **environment: str) -> Generator[tuple[int, int]]:
    """The port that a process prints first, and its id."""
    env = {**os.environ, **environment}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=env) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline().strip()
            yield int(line) if line.isdigit() else int(re.search(r":(\d+)/", json.loads(line)["url"])[1]), running.pid
        finally:
            running.terminate()


def resident(pid: int) -> float:
    """MB in memory."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def cpu(pid: int) -> float:
    """Seconds that it has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(title: str, ports: Sequence[int], pid: int, bodies: Sequence[bytes], clients: int, many: int) -> None:
    """One line of the table: straight, and through the proxy, in turns."""
    rates: list[list[float]] = [[], []]
    times: list[list[float]] = [[], []]
    before = cpu(pid)
    for _ in range(ROUNDS):
        for which, port in enumerate(ports):
            seconds, took = asyncio.run(load(port, bodies, clients, many))
            rates[which].append(many / seconds)
            times[which].append(statistics.median(took) * 1_000)
    (direct_rate, rate), (direct, through) = map(statistics.median, rates), map(statistics.median, times)
    print(
        f"{title:34}{direct:>10.2f}{through:>10.2f}{through - direct:>9.2f}"
        f"{direct_rate:>12,.0f}{rate:>10,.0f}"
        f"{(cpu(pid) - before) / ROUNDS / many * 1_000:>12.2f}",
        flush=True,
    )


def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        upstream, _ = stack.enter_context(process(__file__, "upstream"))
        command = ("-m", "wherry", "guard", "--upstream", f"http://127.0.0.1:{upstream}/v1", "--window", "8192")
        store = f"sqlite:///{folder}/bench.db"
        port, pid = stack.enter_context(process(*command, "--port", "0", "--json", WHERRY_STORE=store))
        print(f"{'':34}{'ms, median':^29}{'requests/s':>22}{'CPU ms':>12}")
        print(f"{'':34}{'straight':>10}{'through':>10}{'added':>9}{'straight':>12}{'through':>10}")
        ports = (upstream, port)
        asyncio.run(load(port, [body(10)], 4, 200))
        row("one client, 10 turns", ports, pid, [body(10)], 1, 200)
        row("one client, 10 turns, streamed", ports, pid, [body(10, stream=True)], 1, 200)
        row("one client, 300 turns, folded", ports, pid, [body(300)], 1, 100)
        talks = [body(10, talk=talk) for talk in range(200)]
        row("16 clients, 200 conversations", ports, pid, talks, 16, 1_000)
        row("64 clients, 200 conversations", ports, pid, talks, 64, 1_000)
        print("\nMB resident after requests of ever new conversations (20 turns, new texts each):")
        for part in range(1, 6):
            new = [body(20, talk=2_000 * part + number) for number in range(2_000)]
            asyncio.run(load(port, new, 8, 2_000))
            print(f"  {resident(pid):.0f}", end="", flush=True)
        print()


if __name__ == "__main__":
    if sys.argv[1:] == ["upstream"]:
        asyncio.run(instant())
    else:
        main()
