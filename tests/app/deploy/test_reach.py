import contextlib
import http.server
import socket
import ssl
import threading

import httpx
import pytest
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supercore.retry import make_simple_http_retry_invoker

from app.deploy import reach
from app.deploy.certificates import Pair, make_authority, make_client, make_server
from app.deploy.errors import DeployError
from app.deploy.founding import Founding
from app.deploy.hospital import join, make_hospital
from app.deploy.keys import make_request
from app.deploy.node import Heart, Introduced, Patient, Trusted
from app.deploy.releases import HEADER
from app.deploy.voices import heard
from app.processes import free_port
from data.check.finding import Level


@pytest.mark.parametrize(
    "ahead, level",
    [(0.0, Level.NOTE), (2.4, Level.NOTE), (4.0, Level.WARNING), (5.1, Level.REFUSED), (-300.0, Level.NOTE),
     (-306.0, Level.REFUSED)],
)  # fmt: skip
def test_a_clock_is_refused_where_flower_would_refuse_it(ahead, level):
    assert reach.clock(ahead).level is level


@pytest.mark.parametrize(
    "line, word",
    [
        ("INFO : SuperNode ID: 123", "connected to the coordinator (node 123)"),
        ("[code: 2004] Failed to activate SuperNode.", "60 s"),
        (
            "ssl.SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get (_ssl.c:1006)",
            "kit",
        ),
        ("WARNING: Connection attempt failed, retrying in 1.21 seconds", "cannot be reached"),
    ],
)
def test_what_flower_says_is_told_in_words_for_the_hospital(line, word):
    assert word in heard(line)


def test_most_of_what_flower_says_is_not_for_the_console():
    assert heard("INFO : Receiving: train message (ID: bb16)") == ""


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


class Coordinator:
    """A TLS server on loopback that answers 404 with a date, as the real proxy does."""

    def __init__(self, folder, *, days=90.0, mtls=False):
        folder.mkdir()
        self.authority, pair = Pair(folder / "ca.crt", folder / "ca.key"), Pair(folder / "s.crt", folder / "s.key")
        make_authority(self.authority, "test")
        make_server(self.authority, pair, ["localhost"], days=days)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority.certificate))
        context.load_cert_chain(pair.certificate, pair.key)
        context.verify_mode = ssl.CERT_REQUIRED if mtls else ssl.CERT_NONE
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.handle_error = lambda *_: None
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"localhost:{self.server.server_address[1]}"

    def kit(self, folder, *, mtls=False):
        folder.mkdir()
        (folder / "ca.crt").write_bytes(self.authority.certificate.read_bytes())
        (folder / "kit.yaml").write_text(f"hospital: north\naddress: {self.address}\nmtls: {str(mtls).lower()}\n")
        return folder


@pytest.fixture
def hospital(tmp_path):
    return make_hospital(tmp_path / "north", Founding("north", tmp_path).settings())


@pytest.fixture
def started(tmp_path):
    made = []

    def start(name="coordinator", **settings):
        made.append(Coordinator(tmp_path / name, **settings))
        return made[-1]

    yield start
    for coordinator in made:
        coordinator.server.shutdown()
        coordinator.server.server_close()


def levels(hospital):
    return {finding.code: finding.level for finding in reach.findings(hospital, hospital.kit())}


def test_a_coordinator_that_is_there_shows_certificate_and_clock(hospital, started, tmp_path):
    join(hospital, started().kit(tmp_path / "kit"))
    assert levels(hospital) == dict.fromkeys(("reachable", "certificate", "clock"), Level.NOTE)


def test_a_certificate_is_spoken_of_before_it_ends(hospital, started, tmp_path):
    join(hospital, started(days=20.0).kit(tmp_path / "kit"))
    assert levels(hospital)["certificate"] is Level.WARNING


@pytest.mark.parametrize("fault", ["ended", "other authority"])
def test_a_certificate_that_has_ended_or_is_anothers_is_refused(hospital, started, tmp_path, fault):
    kit = started(days=-0.01 if fault == "ended" else 90.0).kit(tmp_path / "kit")
    if fault == "other authority":
        make_authority(Pair(kit / "ca.crt", tmp_path / "other.key"), "other")
    join(hospital, kit)
    assert levels(hospital) == {"certificate": Level.REFUSED}


def test_a_coordinator_that_is_not_there_is_unreachable(hospital, started, tmp_path):
    kit = started().kit(tmp_path / "kit")
    (kit / "kit.yaml").write_text(f"hospital: north\naddress: localhost:{free_port()}\n")
    join(hospital, kit)
    assert levels(hospital) == {"unreachable": Level.REFUSED}


@pytest.fixture
def proxy():
    """A proxy on loopback that joins whom it is asked to join; what it was asked."""
    listening, asked = socket.create_server(("127.0.0.1", 0)), []

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                line = near.recv(65536).split(b"\r\n")[0].decode()
                asked.append(line)
                host, _, port = line.split()[1].rpartition(":")
                far = socket.create_connection((host, int(port)))
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=(far, near), daemon=True)
                back.start()
                pump(near, far)
                back.join()
                near.close()
                far.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


def test_a_hospital_behind_a_proxy_is_checked_through_it_as_flowers_client_goes(
    hospital, started, tmp_path, proxy, monkeypatch
):
    coordinator, (address, asked) = started(), proxy
    join(hospital, coordinator.kit(tmp_path / "kit"))
    monkeypatch.setenv("HTTPS_PROXY", address)
    assert levels(hospital) == dict.fromkeys(("reachable", "certificate", "clock"), Level.NOTE)
    assert asked == [f"CONNECT {coordinator.address} HTTP/1.1"]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    (finding,) = reach.findings(hospital, hospital.kit())
    assert (finding.code, finding.level) == ("unreachable", Level.REFUSED)
    assert "HTTPS_PROXY" in finding.remedy


def asking(hospital, coordinator, folder, days):
    """The hospital gets a client certificate for so long."""
    keys = hospital.folder / "keys"
    make_request(keys / "client.key", keys / "client.csr", "north")
    kit = coordinator.kit(folder, mtls=True)
    request = (keys / "client.csr").read_bytes()
    (kit / "client.crt").write_bytes(make_client(coordinator.authority, request, "north", days=days))
    return kit


@pytest.mark.parametrize(("days", "level"), [(90, Level.NOTE), (29, Level.WARNING), (-1, Level.REFUSED)])
def test_the_hospital_s_own_certificate_is_spoken_of_before_it_ends(hospital, started, tmp_path, days, level):
    join(hospital, asking(hospital, started(), tmp_path / "kit", days))
    assert levels(hospital)["client-certificate"] is level


def test_a_kit_whose_certificate_is_of_another_key_is_not_taken_in(hospital, started, tmp_path):
    kit = asking(hospital, started(), tmp_path / "kit", 90)
    (hospital.folder / "keys" / "client.key").unlink()
    with pytest.raises(DeployError, match="site init DIR --mtls"):
        join(hospital, kit)
    make_request(hospital.client_key, hospital.folder / "keys" / "client.csr", "north")
    with pytest.raises(DeployError, match=r"send keys/client\.csr"):
        join(hospital, kit)
    assert not hospital.client_certificate.exists()


def test_the_next_request_is_of_the_same_key_so_that_the_old_certificate_goes_on(hospital, started, tmp_path):
    coordinator = started()
    first = asking(hospital, coordinator, tmp_path / "kit", 90)
    join(hospital, first)
    join(hospital, asking(hospital, coordinator, tmp_path / "next", 390))
    join(hospital, first)


def test_what_the_door_answers_without_a_certificate_is_told_in_words():
    assert "client certificate" in heard("httpx.HTTPStatusError: Client error '400 Bad Request' for url 'https://x'")


def test_flowers_client_shows_the_certificate_for_which_it_has_no_flag(hospital, started, tmp_path):
    coordinator = started(mtls=True)
    keys = hospital.folder / "keys"
    make_request(keys / "client.key", keys / "client.csr", "north")
    kit = coordinator.kit(tmp_path / "kit", mtls=True)
    (kit / "client.crt").write_bytes(make_client(coordinator.authority, (keys / "client.csr").read_bytes(), "north"))
    join(hospital, kit)
    assert levels(hospital)["reachable"] is Level.NOTE

    made = Trusted(hospital).from_server_address(coordinator.address, False, b"", [])
    with made as client, pytest.raises(httpx.HTTPStatusError, match="501"):
        client.GetRun(GetRunRequest(run_id=1))


def test_without_its_client_certificate_nobody_gets_an_answer(hospital, started, tmp_path):
    join(hospital, started(mtls=True).kit(tmp_path / "kit"))
    assert levels(hospital) == {"unreachable": Level.REFUSED}


@pytest.mark.parametrize(("method", "said"), [("ActivateNode", "0.1.0 abc"), ("PullMessages", None)])
def test_the_release_is_said_once_when_the_hospital_is_let_in(method, said):
    request = httpx.Request("POST", "https://localhost/")
    context = ProtobufRequestContext(f"/flwr.proto.Fleet/{method}", GetRunRequest(), request)
    seen = Introduced("0.1.0 abc").intercept(context, lambda given: httpx.Response(200, request=given.request))
    assert seen.request.headers.get(HEADER) == said


def answered(heart, status, method="SendNodeHeartbeat"):
    context = ProtobufRequestContext(
        f"/flwr.proto.Fleet/{method}", GetRunRequest(), httpx.Request("POST", "https://localhost/")
    )
    return heart.intercept(context, lambda given: httpx.Response(status, request=given.request)).status_code


def test_a_heartbeat_at_which_the_coordinator_failed_is_sent_again_and_spoken_of_once(caplog):
    heart = Heart()
    for _ in range(3):
        with pytest.raises(httpx.TransportError, match="500 Internal Server Error"):
            answered(heart, 500)
    assert [answered(heart, 200), answered(heart, 200)] == [200, 200]
    failed, mended = map(heard, caplog.messages)
    assert "its disk may be full" in failed
    assert "hears this hospital again" in mended


@pytest.mark.parametrize(("status", "method"), [(401, "SendNodeHeartbeat"), (500, "PushObject")])
def test_another_answer_or_request_is_left_to_flower(status, method):
    assert answered(Heart(), status, method) == status


def test_a_connection_that_broke_off_is_no_reason_for_flower_to_give_up():
    def broken(given):
        raise httpx.ReadError("[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed or bad record mac")

    tries = make_simple_http_retry_invoker()
    tries.max_tries, tries.wait_function = 2, lambda seconds: None
    context = ProtobufRequestContext("", GetRunRequest(), httpx.Request("POST", "https://localhost/"))
    seen = []

    def once():
        seen.append(1)
        return Patient().intercept(context, broken)

    with pytest.raises(httpx.ReadError, match="the connection broke off"):
        tries.invoke(once)
    assert len(seen) == 2


def test_a_certificate_that_cannot_be_trusted_is_one():
    def refused(given):
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed")

    context = ProtobufRequestContext("", GetRunRequest(), httpx.Request("POST", "https://localhost/"))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        Patient().intercept(context, refused)
