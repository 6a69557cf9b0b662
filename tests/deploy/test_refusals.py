"""What a federation refuses, each shown with the real processes: at the door, at the register, at the hospital."""

import json
import shutil
import socket
import ssl
from pathlib import Path

import httpx
import pytest
import yaml

from app.cli import main
from app.deploy import audit_log, certificates
from app.deploy.certificates import Pair
from app.deploy.nginx import BODY_MIB, FLEET
from tests.deploy.conftest import ONLINE_SECONDS, founded
from tests.deploy.processes import TINY, Process

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def up(tmp_path_factory, cohort, bundle):
    """A running coordinator with one hospital online."""
    with founded(tmp_path_factory.mktemp("refusals")) as federation:
        federation.enrol("north", cohort, bundle)
        federation.start_coordinator()
        federation.start_site("north").wait_for("connected to the coordinator", ONLINE_SECONDS)
        yield federation


@pytest.fixture
def door(up):
    """Speaks HTTPS with the coordinator as a hospital would."""
    trust = ssl.create_default_context(cafile=str(up.coordinator.authority.certificate))
    with httpx.Client(base_url=f"https://{up.coordinator.address}", verify=trust) as client:
        yield client


def answer(up, path):
    """The status of a POST whose path is sent as it is written; client libraries tidy paths up first."""
    trust = ssl.create_default_context(cafile=str(up.coordinator.authority.certificate))
    place = (up.coordinator.host, up.coordinator.listen)
    ask = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/protobuf\r\nContent-Length: 0\r\n\r\n"
    with socket.create_connection(place, timeout=30) as raw, trust.wrap_socket(raw, server_hostname=place[0]) as secure:
        secure.sendall(ask.encode())
        return int(secure.recv(1000).split()[1])


def policy(site, **facts):
    """Change a hospital's own limits."""
    path = site / "site.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["policy"] |= facts
    path.write_text(yaml.safe_dump(settings))


def refusals(site):
    return [line for line in audit_log.read(site / "audit.jsonl") if line["event"] == "refused"]


# --- at the door --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/", "/docs", "/openapi.json", "/health", "/v1/control/start-run", "/v1/control/list-runs",
        "/v1/control/register-node", "/v1/runtime/acquire-task", "/v1/runtime/get-nodes", "/v1/fleet/register-node",
        "/v1/fleet/unregister-node", "/v1/fleet/", "/v1/fleet/pull-messages/", "/v1/fleet/pull-messages/../get-fab/x",
        "/v1/fleet/../control/list-runs", "/v1/fleet/pull-messages/../../control/list-runs",
        "/v1/fleet/..%2fcontrol/list-runs", "//v1/control/list-runs", "/V1/FLEET/pull-messages",
    ],
)  # fmt: skip
def test_outside_of_the_fleet_paths_there_is_nothing(up, path):
    assert answer(up, path) == 404


@pytest.mark.parametrize("path", ["/v1/control/list-runs/../../fleet/pull-messages", "//v1//fleet/./pull-messages"])
def test_a_fleet_path_that_is_written_otherwise_is_that_path_and_as_shut(up, path):
    assert answer(up, path) == 401


@pytest.mark.parametrize("path", FLEET)
def test_a_fleet_path_without_a_signature_is_shut(door, path):
    headers = {"content-type": "application/protobuf"}
    assert door.post(f"/v1/fleet/{path}", content=b"", headers=headers).status_code == 401
    assert door.get(f"/v1/fleet/{path}").status_code == 405


def test_a_body_over_the_limit_is_turned_away(door):
    body = b"\0" * (BODY_MIB * 1024 * 1024 + 1)
    assert door.post("/v1/fleet/push-object", content=body).status_code == 413


def test_without_tls_nobody_is_heard(up):
    with socket.create_connection((up.coordinator.host, up.coordinator.listen)) as raw:
        raw.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"400 Bad Request" in raw.recv(1000)


def test_the_superlink_itself_is_on_loopback_alone(up):
    own = up.network.coordinator if up.network else socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((own, up.coordinator.superlink_port), timeout=2)


# --- at the register ----------------------------------------------------------------------------------------------


def test_a_key_that_is_not_enrolled_does_not_come_in(up, cohort, bundle):
    site = up.init("stranger", cohort, bundle)
    forged = up.folder / "forged"
    shutil.copytree(up.coordinator.kits / "north", forged)
    (forged / "kit.yaml").write_text((forged / "kit.yaml").read_text().replace("north", "stranger"))
    assert main(["site", "init", str(site), "--kit", str(forged)]) == 0
    started = up.start_site("stranger")
    started.wait_for("does not let this hospital in", ONLINE_SECONDS)
    assert started.interrupt() == 0


def test_a_second_hospital_with_the_same_key_does_not_come_in_and_a_run_goes_on_without_it(up):
    shutil.copytree(up.site("north"), up.site("twin"), ignore=shutil.ignore_patterns("lock"))
    twin = up.start_site("twin")
    twin.wait_for("the same key is in use elsewhere", ONLINE_SECONDS)
    run = up.run(up.folder / "beside-a-twin", *TINY, "++federation.hospitals.north={}", "quorum=1", "rounds=1")
    assert run.ended(240) == 0, run.said()
    assert "round 1" in up.running[1].said(), "the first one did not answer"
    assert "round 1" not in twin.said()
    assert twin.interrupt() == 0


def test_a_coordinator_of_another_authority_is_not_believed(up, cohort, bundle, tmp_path):
    site = up.enrol("misled", cohort, bundle)
    other = Pair(tmp_path / "ca.crt", tmp_path / "ca.key")
    certificates.make_authority(other, "localhost")
    shutil.copy(other.certificate, site / "kit" / "ca.crt")
    started = up.start_site("misled")
    started.wait_for("not of the kit's authority", ONLINE_SECONDS)
    assert started.interrupt() == 0


def test_a_revoked_hospital_is_shut_out_within_seconds(up, cohort, bundle):
    up.enrol("leaving", cohort, bundle)
    started = up.start_site("leaving")
    started.wait_for("connected to the coordinator", ONLINE_SECONDS)
    assert main(["coordinator", "revoke", "leaving", "--dir", str(up.home)]) == 0
    started.wait_for("does not let this hospital in", 60)
    assert started.interrupt() == 0
    assert "leaving" not in json.loads(up.coordinator.nodes.read_text()).values()


def test_an_ended_certificate_is_refused_until_it_is_rotated(up, cohort, bundle):
    up.enrol("later", cohort, bundle)
    certificates.make_server(up.coordinator.authority, up.coordinator.server, [up.coordinator.host], days=-1)
    up.running[0].wait_for("the new server certificate is in use", 30)
    started = up.start_site("later")
    started.wait_for(r"has ended", ONLINE_SECONDS)
    assert main(["coordinator", "rotate", str(up.home)]) == 0
    started.wait_for("connected to the coordinator", ONLINE_SECONDS)
    assert started.interrupt() == 0
    # The others may have met the ended certificate, too, and then wait for Flower's lock.
    assert up.running[1].interrupt() == 0
    up.start_site("north").wait_for("connected to the coordinator", ONLINE_SECONDS)


def test_a_coordinator_with_an_ended_certificate_says_so_instead_of_starting(tmp_path):
    with founded(tmp_path) as federation:
        certificates.make_server(
            federation.coordinator.authority, federation.coordinator.server, [federation.coordinator.host], days=-1
        )
        started = federation.start("coordinator", "start", str(federation.home), name="coordinator")
        assert started.ended(60) == 1
        assert "fedvox coordinator rotate" in started.said()


# --- at the hospital ----------------------------------------------------------------------------------------------


def refused_run(up, name, *overrides, cwd=None) -> tuple[Process, list[dict]]:
    """A run that north is to refuse. Returns the run's process and what north wrote down."""
    site, run_dir = up.site("north"), up.folder / name
    before = len(refusals(site))
    named = ["++federation.hospitals.north={}", "quorum=1", "rounds=1", "wait_s=30"]
    up.wait_until_online("north")
    run = up.run(run_dir, *TINY, *named, *overrides, cwd=cwd)
    run.ended(240)
    return run, refusals(site)[before:]


def test_an_altered_bundle_is_refused_and_learns_a_code_only(up, tmp_path):
    altered = tmp_path / "altered"
    altered.mkdir()
    for part in ("app", "data", "models", "strategies", "conf"):
        shutil.copytree(ROOT / part, altered / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", altered)
    client = altered / "app" / "client_app.py"
    client.write_text(client.read_text() + "\n# a door for the coordinator\n")
    run, written = refused_run(up, "altered", cwd=altered)
    assert run.popen.returncode == 1
    assert {line["code"] for line in written} == {"policy-bundle"}
    assert "policy-bundle" in run.said()
    assert str(up.site("north")) not in run.said()


@pytest.mark.parametrize(
    ("limits", "open_again", "code"),
    [
        ({"accepted": {"unit": ["patient"]}}, {"accepted": {}}, "policy-unit"),
        ({"configurations": ["0" * 16]}, {"configurations": []}, "policy-configuration"),
    ],
)
def test_a_run_that_the_hospital_does_not_accept_learns_a_code_only(up, limits, open_again, code):
    policy(up.site("north"), **limits)
    try:
        run, written = refused_run(up, code)
        assert run.popen.returncode == 1
        assert {line["code"] for line in written} == {code}
        assert code in run.said()
        assert str(up.site("north")) not in run.said()
    finally:
        policy(up.site("north"), **open_again)


def test_a_run_over_the_hospital_s_cap_gets_no_answer_for_it(up):
    policy(up.site("north"), epsilon_cap=0.01)
    try:
        private = ["strategy/privacy=patient", "training.class_balance=false"]
        run, written = refused_run(up, "over", *private)
        assert run.popen.returncode == 1
        assert written
        assert all(line["code"].startswith("budget-") for line in written)
        assert str(up.site("north")) not in run.said()
    finally:
        policy(up.site("north"), epsilon_cap=8.0)
