"""What goes over a wire, as `tcpdump` would see it: whole frames, both ways. Needs root."""

import socket
import struct
import threading
from dataclasses import dataclass

EVERYTHING = 3
"""ETH_P_ALL."""
IPV4, ARP, TCP = 0x0800, 0x0806, 6
"""ARP is how a machine finds its neighbour's address on the wire; it leaves no network."""

WENT_OUT = socket.PACKET_OUTGOING
"""Of a frame that this end of the wire sent; whatever else is seen came from the other end."""

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
        self.others: list[str] = []
        """What came from the other end and is neither TCP over IPv4 nor ARP, by its number."""
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
                frame, (_, _, direction, *_) = self._socket.recvfrom(LONGEST)
            except TimeoutError:
                continue
            self.nbytes += len(frame)
            if (packet := tcp_packet(frame)) is not None:
                self.packets.append(packet)
            elif direction != WENT_OUT and (what := stranger(frame)):
                self.others.append(what)


def tcp_packet(frame: bytes) -> Packet | None:
    """A frame's TCP packet; None where it carries something else."""
    ip = frame[14:]
    if struct.unpack_from("!H", frame, 12)[0] != IPV4 or ip[9] != TCP:
        return None
    source, target = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
    tcp = ip[(ip[0] & 15) * 4 : struct.unpack_from("!H", ip, 2)[0] or None]
    ports = struct.unpack_from("!HH", tcp)
    payload = tcp[(tcp[12] >> 4) * 4 :]
    return Packet((source, ports[0]), (target, ports[1]), tcp[13], payload)


def stranger(frame: bytes) -> str:
    """What a frame is that carries no TCP; empty for ARP."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == ARP:
        return ""
    return f"IPv4 protocol {frame[14 + 9]}" if kind == IPV4 else f"frame of type {kind:#06x}"
