"""The real nginx before a server that writes down what reaches it: what is asked is written byte by byte, as a client
library would not.
"""

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from app.deploy import nginx
from app.deploy.certificates import make_client
from app.deploy.coordinator import make_coordinator
from app.deploy.enrolment import enrol, revoke
from app.deploy.hospital import Hospital
from app.deploy.issued import list_file, write_list
from app.deploy.keys import make_key, make_request
from app.processes import answers, free_port

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (apt-get install nginx)")


class Superlink(http.server.BaseHTTPRequestHandler):
    """Answers everything, and keeps the first line as it came."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.seen.append(self.requestline)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Door:
    """A coordinator's proxy, and what stands behind it."""

    def __init__(self, coordinator, state):
        object.__setattr__(coordinator, "state_dir", state)
        (state / "empty").mkdir(parents=True)
        self.coordinator = coordinator
        self.superlink = http.server.ThreadingHTTPServer(("127.0.0.1", coordinator.superlink_port), Superlink)
        self.superlink.seen = []
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(coordinator.loopback.certificate, coordinator.loopback.key)
        self.superlink.socket = context.wrap_socket(self.superlink.socket, server_side=True)
        threading.Thread(target=self.superlink.serve_forever, daemon=True).start()
        command = nginx.command(nginx.write_configuration(coordinator))
        self.proxy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not answers(coordinator.listen) and time.monotonic() < until:
            time.sleep(0.05)

    def ask(self, target, client=None, method="POST"):
        """Write one request. Returns the status."""
        trust = ssl.create_default_context(cafile=str(self.coordinator.authority.certificate))
        if client:
            trust.load_cert_chain(*client)
        place = ("127.0.0.1", self.coordinator.listen)
        with (
            socket.create_connection(place, timeout=10) as raw,
            trust.wrap_socket(raw, server_hostname="localhost") as s,
        ):
            s.sendall(
                f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            return int(s.recv(100).split()[1])

    def close(self):
        self.proxy.terminate()
        self.proxy.wait()
        self.superlink.shutdown()
        self.superlink.server_close()


@pytest.fixture
def opened(tmp_path):
    doors = []

    def open_door(**settings):
        ports = {"superlink_port": free_port()}
        made = make_coordinator(tmp_path / "coordinator", f"localhost:{free_port()}", **ports, **settings)
        doors.append(Door(made, tmp_path / "state"))
        return doors[-1]

    yield open_door
    for door in doors:
        door.close()


OUTSIDE = [
    "/", "//v1/control/list-runs", "/v1/control/list-runs", "/v1/fleet/../control/list-runs",
    "/v1/fleet/pull-messages/../../control/list-runs", "/v1/fleet/..%2fcontrol/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs", "/v1/fleet/pull-messages/../get-fab/x", "/v1/fleet/pull-messages/",
    "/v1/fleet/pull-messages%00", "/v1/fleet/register-node", "https://localhost/v1/control/list-runs",
]  # fmt: skip

MEANT = [
    "/v1/fleet/pull-messages", "/v1/control/list-runs/../../fleet/pull-messages", "//v1//fleet/./pull-messages",
    "/v1/fleet/%70ull-messages", "/v1/fleet/get-fab/../pull-messages", "https://localhost/v1/fleet/pull-messages",
]  # fmt: skip


def test_the_superlink_hears_fleet_paths_alone_however_they_are_written(opened):
    door = opened()
    answered = {target: door.ask(target) for target in OUTSIDE}
    assert set(answered.values()) <= {400, 404}, answered
    assert door.superlink.seen == []
    assert {target: door.ask(target) for target in MEANT} == dict.fromkeys(MEANT, 200)
    assert door.superlink.seen == ["POST /v1/fleet/pull-messages HTTP/1.1"] * len(MEANT)
    assert door.ask("/v1/fleet/pull-messages", method="GET") == 405


def hospital(folder, name):
    """A hospital's folder as far as its keys go."""
    made = Hospital(folder / name)
    (made.folder / "keys").mkdir(parents=True)
    make_key(made.key, made.public_key, name)
    make_request(made.client_key, made.folder / "keys" / "client.csr", name)
    return made


def given(door, site, name):
    """Enrol, or enrol again. Returns the certificate and its key."""
    kit = enrol(door.coordinator, name, site.public_key, request=site.folder / "keys" / "client.csr")
    certificate = site.folder / f"{time.monotonic_ns()}.crt"
    shutil.copy(kit / "client.crt", certificate)
    return certificate, site.client_key


def test_under_mtls_a_hospital_s_certificates_all_open_the_door_until_it_is_revoked(opened, tmp_path):
    door = opened(mtls=True)
    north, south = (hospital(tmp_path, name) for name in ("north", "south"))
    first, renewed, other = given(door, north, "north"), given(door, north, "north"), given(door, south, "south")
    ended = tmp_path / "ended.crt"
    request = (north.folder / "keys" / "client.csr").read_bytes()
    ended.write_bytes(make_client(door.coordinator.authority, request, "north", days=-1))
    path = "/v1/fleet/pull-messages"
    assert [door.ask(path, client) for client in (None, (ended, north.client_key))] == [400, 400]
    assert [door.ask(path, client) for client in (first, renewed, other)] == [200, 200, 200]
    revoke(door.coordinator, "north")
    nginx.reload(door.proxy.pid)
    until = time.monotonic() + 10
    while door.ask(path, first) != 400 and time.monotonic() < until:
        time.sleep(0.1)
    assert [door.ask(path, client) for client in (first, renewed, other)] == [400, 400, 200]
    before = list_file(door.coordinator).read_bytes()
    write_list(door.coordinator)
    assert list_file(door.coordinator).read_bytes().count(b"\n") == before.count(b"\n")
