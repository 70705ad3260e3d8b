"""A TCP proxy before PostgreSQL that loses the answer to a COMMIT, falls silent, or is slow."""

import asyncio
import contextlib
import re
import struct
import threading
from dataclasses import dataclass, field

from sqlalchemy import URL

_WRITES = re.compile(rb"\b(INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_COMMIT = re.compile(rb"^\s*COMMIT\b", re.IGNORECASE)
_READY_IDLE = b"Z\x00\x00\x00\x05I"
_CHUNK = 65536


@dataclass(eq=False)
class _Client:
    """One connection through the proxy, and the last statement that went in."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    prepared: dict[bytes, bytes] = field(default_factory=dict)
    statement: bytes = b""
    is_started: bool = False
    is_swallowed: bool = False

    @property
    def commits(self) -> bool:
        """Whether the database commits before it answers this statement with "idle"."""
        return bool(_COMMIT.match(self.statement) or _WRITES.search(self.statement))


class Proxy:
    """Listens on a free port of 127.0.0.1, in a thread of its own.

    It reads the protocol (without TLS), so that it knows which answer is the one to a commit.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, name="chaos-proxy", daemon=True
        )
        self._is_up = threading.Event()
        self._clients: set[_Client] = set()
        self._to_cut = 0
        self._delay = 0.0
        self._passes: asyncio.Event
        self.cuts = 0
        """Answers to commits that were lost so far."""

    def start(self, server: URL) -> int:
        """Listen before *server*; return the port."""
        self._target = (server.host, server.port)
        self._thread.start()
        self._is_up.wait()
        return self._port

    def stop(self) -> None:
        """Close every connection and end."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def cut_commits(self, count: int) -> None:
        """Lose the answers to the next *count* commits: applied, and nobody is told."""
        self._loop.call_soon_threadsafe(self._add_cuts, count)

    def fall_silent(self, seconds: float, *, lose: bool) -> None:
        """Carry nothing for *seconds*; then go on, or with *lose* close what was open."""
        asyncio.run_coroutine_threadsafe(self._hold(seconds, lose=lose), self._loop)

    def swallow(self) -> None:
        """Never answer the connections of this moment again, and never close them."""
        asyncio.run_coroutine_threadsafe(self._swallow(), self._loop).result()

    def slow_down(self, seconds: float, *, delay: float) -> None:
        """Carry every answer *delay* late for *seconds*."""
        asyncio.run_coroutine_threadsafe(self._drag(seconds, delay), self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping, self._passes = asyncio.Event(), asyncio.Event()
        self._passes.set()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._stopping.wait()
        server.close()
        self._close_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = _Client(reader, writer)
        try:
            upstream, downstream = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        self._clients.add(client)
        pumps = [
            asyncio.create_task(self._carry_in(client, downstream)),
            asyncio.create_task(self._carry_out(client, upstream)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the proxy ends; the stream's own callback would print it
        finally:
            self._clients.discard(client)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            _reset(writer)
            _reset(downstream)

    async def _carry_in(
        self, client: _Client, downstream: asyncio.StreamWriter
    ) -> None:
        """To the server, statement by statement."""
        pending = b""
        with contextlib.suppress(OSError):
            while chunk := await client.reader.read(_CHUNK):
                await self._passes.wait()
                if client.is_swallowed:
                    continue
                pending = _note_statements(client, pending + chunk)
                downstream.write(chunk)
                await downstream.drain()

    async def _carry_out(self, client: _Client, upstream: asyncio.StreamReader) -> None:
        """To the client; the answer to a commit may be kept back for good."""
        with contextlib.suppress(OSError):
            while chunk := await upstream.read(_CHUNK):
                await self._passes.wait()
                if client.is_swallowed:
                    continue
                if self._delay:
                    await asyncio.sleep(self._delay)
                if self._to_cut and client.commits and chunk.endswith(_READY_IDLE):
                    self._to_cut -= 1
                    self.cuts += 1
                    return  # both ends are reset
                client.writer.write(chunk)
                await client.writer.drain()

    def _add_cuts(self, count: int) -> None:
        self._to_cut += count

    async def _hold(self, seconds: float, *, lose: bool) -> None:
        self._passes.clear()
        await asyncio.sleep(seconds)
        if lose:
            self._close_all()
        self._passes.set()

    async def _drag(self, seconds: float, delay: float) -> None:
        self._delay = delay
        await asyncio.sleep(seconds)
        self._delay = 0.0

    async def _swallow(self) -> None:
        for client in self._clients:
            client.is_swallowed = True

    def _close_all(self) -> None:
        for client in self._clients:
            _reset(client.writer)


def _note_statements(client: _Client, data: bytes) -> bytes:
    """Remember what is asked; return the bytes of a message that is not complete yet."""
    while True:
        head = 1 if client.is_started else 0  # the first message has no letter
        if len(data) < head + 4:
            return data
        length = head + struct.unpack_from("!I", data, head)[0]
        if len(data) < length:
            return data
        if client.is_started:
            _note(client, data[:1], data[5:length])
        client.is_started = True
        data = data[length:]


def _note(client: _Client, letter: bytes, body: bytes) -> None:
    match letter:
        case b"Q":  # simple query
            client.statement = body
        case b"P":  # Parse: name, statement
            name, statement, _ = body.split(b"\0", 2)
            client.prepared[name] = client.statement = statement
        case b"B":  # Bind: portal, name
            _, name, _ = body.split(b"\0", 2)
            client.statement = client.prepared.get(name, b"")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell."""
    with contextlib.suppress(OSError, RuntimeError):
        writer.transport.abort()
