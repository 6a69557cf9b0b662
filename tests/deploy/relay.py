"""A wire between a hospital and the coordinator that can listen, be long, or be cut.

It ends the hospital's TLS with a certificate that the federation's authority signed for the test, and opens its own to
the coordinator, so that what leaves the hospital is seen as plain bytes. One thread does all of it: a TLS connection
that is read and written by two at once breaks.
"""

import asyncio
import contextlib
import ssl
import threading
from asyncio import StreamReader, StreamWriter

from app.deploy.certificates import Pair, make_server
from app.deploy.coordinator import Coordinator

CHUNK = 16384


class Relay:
    """Listens on a port of its own; `sent` is all that hospitals sent through it."""

    def __init__(self, coordinator: Coordinator, *, delay_s: float = 0.0) -> None:
        """`delay_s` is each way's."""
        self._delay, self.host, self._far_port = delay_s, coordinator.host, coordinator.listen
        pair = Pair(coordinator.folder / "relay.crt", coordinator.folder / "relay.key")
        make_server(coordinator.authority, pair, [coordinator.host])
        self._inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inside.load_cert_chain(pair.certificate, pair.key)
        self._outside = ssl.create_default_context(cafile=str(coordinator.authority.certificate))
        self._open: set[StreamWriter] = set()
        self.sent, self.is_cut = bytearray(), False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        listening = asyncio.start_server(self._serve, self.host, 0, ssl=self._inside)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Drop all connections and refuse new ones."""
        self.is_cut = True
        self._loop.call_soon_threadsafe(self._drop)

    def heal(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)

    def _drop(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, near: StreamReader, to_near: StreamWriter) -> None:
        if self.is_cut:
            to_near.transport.abort()
            return
        with contextlib.suppress(OSError):
            far, to_far = await asyncio.open_connection(
                self.host, self._far_port, ssl=self._outside, server_hostname=self.host
            )
            self._open |= {to_near, to_far}
            await asyncio.gather(self._pump(near, to_far, self.sent), self._pump(far, to_near, None))
            self._open -= {to_near, to_far}

    async def _pump(self, source: StreamReader, sink: StreamWriter, record: bytearray | None) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.ensure_future(self._arrive(under_way, sink))
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if record is not None:
                    record += data
                under_way.put_nowait((self._loop.time() + self._delay, data))
        under_way.put_nowait((self._loop.time() + self._delay, b""))
        await arriving

    async def _arrive(self, under_way: "asyncio.Queue[tuple[float, bytes]]", sink: StreamWriter) -> None:
        """Send on what has been under way for long enough; what follows is under way meanwhile."""
        with contextlib.suppress(OSError):
            while (due := await under_way.get())[1]:
                await asyncio.sleep(max(due[0] - self._loop.time(), 0.0))
                sink.write(due[1])
                await sink.drain()
        sink.close()
