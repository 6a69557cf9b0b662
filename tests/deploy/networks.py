"""Each hospital in a network namespace with an address of its own, on a bridge to the coordinator.

Needs root, `ip netns`, and for bad wires `tc` (token bucket) and `nft`. Where they are not, hospitals share
the loopback of this machine, and what needs a namespace is skipped. Nothing needs netem, which many kernels lack.
"""

import itertools
import os
import subprocess
import sys
from dataclasses import dataclass, field

LOSS = """\
add table inet {table}
delete table inet {table}
table inet {table} {{
  chain leaving {{ type filter hook output priority 0; ip daddr {address} {chance} drop; }}
  chain coming {{ type filter hook input priority 0; ip saddr {address} {chance} drop; }}
}}
"""
"""Packets vanish without a sign, as on a cut line; a device that is down would tell its sender."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Ward:
    """One hospital's namespace, and the wire that leads to it."""

    namespace: str
    link: str
    """The coordinator's end of the wire."""
    address: str

    @property
    def inside(self) -> list[str]:
        """Put before a command, has it run in there."""
        return ["ip", "netns", "exec", self.namespace]

    def send(self, frame: bytes) -> None:
        """One frame from in there, whatever it is."""
        code = "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); "
        code += "s.send(sys.stdin.buffer.read())"
        subprocess.run([*self.inside, sys.executable, "-c", code], input=frame, check=True)

    def lose(self, percent: int) -> None:
        """Drop so many of a hundred packets, each way."""
        chance = "" if percent >= 100 else f"numgen random mod 100 < {percent}"
        if percent:
            rules = LOSS.format(table=self.link, address=self.address, chance=chance)
            subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        else:
            subprocess.run(["nft", "delete", "table", "inet", self.link], check=True)

    def cut(self) -> None:
        self.lose(100)

    def heal(self) -> None:
        self.lose(0)

    def limit(self, rate: str) -> None:
        """So many bits a second, each way."""
        bucket = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]
        _ip("tc", "qdisc", "replace", "dev", self.link, *bucket)
        _ip(*self.inside, "tc", "qdisc", "replace", "dev", "eth0", *bucket)


@dataclass
class Network:
    """A bridge on this machine; the coordinator has its first address."""

    bridge: str
    prefix: str
    wards: dict[str, Ward] = field(default_factory=dict)

    @property
    def coordinator(self) -> str:
        return f"{self.prefix}.1"

    def ward(self, name: str) -> Ward:
        """A hospital's namespace; made where there is none."""
        if name not in self.wards:
            number = len(self.wards) + 2
            link = f"{self.bridge}h{number}"
            self.wards[name] = made = Ward(link, link, f"{self.prefix}.{number}")
            _ip("ip", "netns", "add", link)
            _ip("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", link)
            _ip("ip", "link", "set", link, "master", self.bridge, "up")
            # Without a word of ours, a device that comes up announces itself by IPv6.
            _ip(
                *made.inside,
                "sysctl",
                "-qw",
                "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.default.disable_ipv6=1",
            )
            _ip(*made.inside, "ip", "link", "set", "lo", "up")
            _ip(*made.inside, "ip", "link", "set", "eth0", "up")
            _ip(*made.inside, "ip", "address", "add", f"{made.address}/24", "dev", "eth0")
        return self.wards[name]

    def close(self) -> None:
        """Take all of it away; what is gone already is no fault."""
        for ward in self.wards.values():
            subprocess.run(["nft", "delete", "table", "inet", ward.link], check=False, capture_output=True)
            subprocess.run(["ip", "link", "del", ward.link], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", ward.namespace], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)


def network() -> Network | None:
    """A new network; None where this machine or account cannot make one."""
    number = next(_numbers)
    made = Network(f"fv{os.getpid() % 100_000}b{number}", f"10.{64 + number % 128}.{os.getpid() % 250}")
    try:
        _ip("ip", "link", "add", made.bridge, "type", "bridge")
        _ip("ip", "address", "add", f"{made.coordinator}/24", "dev", made.bridge)
        _ip("ip", "link", "set", made.bridge, "up")
        made.ward("probe")
    except (OSError, subprocess.CalledProcessError):
        made.close()
        return None
    return made


def _ip(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
