"""A wire between a hospital and the coordinator that can listen, be slow, or be cut.

It ends the hospital's TLS with a certificate that the federation's authority signed for the test, and opens its own to
the coordinator, so that what leaves the hospital is seen as plain bytes.
"""

import contextlib
import socket
import ssl
import threading
import time

from app.deploy.certificates import Pair, make_server
from app.deploy.coordinator import Coordinator

CHUNK = 16384


class Relay:
    """Listens on a port of its own; `sent` is all that hospitals sent through it."""

    def __init__(self, coordinator: Coordinator, *, bytes_a_second: float = 0.0, delay_s: float = 0.0) -> None:
        self._coordinator, self._rate, self._delay = coordinator, bytes_a_second, delay_s
        pair = Pair(coordinator.folder / "relay.crt", coordinator.folder / "relay.key")
        make_server(coordinator.authority, pair, [coordinator.host])
        self._inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inside.load_cert_chain(pair.certificate, pair.key)
        self._outside = ssl.create_default_context(cafile=str(coordinator.authority.certificate))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = self._listening.getsockname()[1]
        self.sent, self.is_cut = bytearray(), False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop all connections and refuse new ones."""
        self.is_cut = True
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listening.accept()[0],), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.is_cut:
                raw.close()
                return
            near = self._inside.wrap_socket(raw, server_side=True)
            port = self._coordinator.listen
            far = self._outside.wrap_socket(
                socket.create_connection(("127.0.0.1", port)), server_hostname=self._coordinator.host
            )
            self._open += [near, far]
            threading.Thread(target=self._pump, args=(far, near, None), daemon=True).start()
            self._pump(near, far, self.sent)

    def _pump(self, source: ssl.SSLSocket, sink: ssl.SSLSocket, record: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if record is not None:
                    record += data
                time.sleep(self._delay + (len(data) / self._rate if self._rate else 0.0))
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.close()
