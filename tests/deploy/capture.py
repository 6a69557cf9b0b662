"""What goes over a wire, as `tcpdump` would see it: whole packets, both ways. Needs root."""

import socket
import struct
import threading
from dataclasses import dataclass

EVERYTHING = 3
"""ETH_P_ALL."""
IPV4, TCP = 0x0800, 6
SYN, ACK = 0x02, 0x10
LONGEST = 1 << 17


@dataclass(frozen=True)
class Packet:
    """One TCP packet."""

    source: tuple[str, int]
    target: tuple[str, int]
    flags: int
    payload: bytes

    @property
    def opens(self) -> bool:
        """Whether its sender asks for a new connection."""
        return bool(self.flags & SYN) and not self.flags & ACK


class Capture:
    """Listens to a network device of this machine until it is closed."""

    def __init__(self, device: str) -> None:
        self.packets: list[Packet] = []
        self.others: list[tuple[str, int]] = []
        """Who sent what other IPv4 protocol."""
        self.nbytes = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
        self._socket.bind((device, 0))
        self._socket.settimeout(0.2)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                frame = self._socket.recv(LONGEST)
            except TimeoutError:
                continue
            self.nbytes += len(frame)
            if struct.unpack_from("!H", frame, 12)[0] == IPV4:
                self._note(frame[14:])

    def _note(self, ip: bytes) -> None:
        protocol, head = ip[9], (ip[0] & 15) * 4
        source, target = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
        if protocol != TCP:
            self.others.append((source, protocol))
            return
        tcp = ip[head : struct.unpack_from("!H", ip, 2)[0] or None]
        ports = struct.unpack_from("!HH", tcp)
        payload = tcp[(tcp[12] >> 4) * 4 :]
        self.packets.append(Packet((source, ports[0]), (target, ports[1]), tcp[13], payload))
