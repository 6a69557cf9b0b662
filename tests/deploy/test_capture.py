"""What a capture counts, shown on frames that a hospital must not send: else its silence would say nothing."""

import socket
import struct

import pytest

from tests.deploy.capture import Capture, stranger, tcp_packet
from tests.deploy.networks import network

ADDRESSES = bytes(12)
TCP_HEADER = struct.pack("!HHIIBBHHH", 40000, 8443, 0, 0, 5 << 4, 0x18, 0, 0, 0)


def ipv4(protocol, content):
    ends = socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.1")
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0, 64, protocol, 0)
    return ADDRESSES + b"\x08\x00" + head + ends + content


def test_a_tcp_packet_is_taken_apart():
    packet = tcp_packet(ipv4(6, TCP_HEADER + b"hello") + b"padding")
    assert (packet.source, packet.target, packet.payload) == (("10.0.0.2", 40000), ("10.0.0.1", 8443), b"hello")


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (ipv4(17, b"a name is asked for"), "IPv4 protocol 17"),
        (ADDRESSES + b"\x86\xdd" + bytes(40), "frame of type 0x86dd"),
        (ADDRESSES + b"\x88\xcc" + bytes(40), "frame of type 0x88cc"),
        (ADDRESSES + b"\x08\x06" + bytes(28), ""),
    ],
    ids=["UDP", "IPv6", "LLDP", "ARP"],
)
def test_everything_else_but_arp_is_counted(frame, what):
    assert tcp_packet(frame) is None
    assert stranger(frame) == what


def test_what_a_hospital_sends_beside_tcp_is_seen_on_its_wire():
    made = network()
    if made is None:
        pytest.skip("needs root and `ip netns`")
    try:
        ward = made.ward("talker")
        capture = Capture(ward.link)
        ward.send(b"\xff" * 6 + bytes(6) + b"\x86\xdd" + bytes(60))
        ward.send(b"\xff" * 6 + bytes(6) + b"\x08\x06" + bytes(60))
        capture.close()
        assert capture.others == ["frame of type 0x86dd"]
    finally:
        made.close()
