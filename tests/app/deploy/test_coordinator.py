import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from flwr.supernode import fleet_http_client

from app.deploy import audit_log, nginx
from app.deploy.coordinator import make_coordinator, open_coordinator
from app.deploy.enrolment import Enrolled, enrol, enrolled, read_key, revoke
from app.deploy.errors import DeployError
from app.deploy.keys import make_key


@pytest.fixture
def coordinator(tmp_path):
    return make_coordinator(tmp_path / "coordinator", "ct.example.org:9443")


@pytest.fixture
def key(tmp_path):
    """Makes hospitals' public keys as `fedvox site init` does."""

    def make(name):
        make_key(tmp_path / name, tmp_path / f"{name}.pub", name)
        return tmp_path / f"{name}.pub"

    return make


def test_a_coordinator_reads_itself_back(coordinator):
    assert open_coordinator(coordinator.folder) == coordinator
    assert (coordinator.address, coordinator.listen) == ("ct.example.org:9443", 9443)


def test_no_secret_is_readable_for_others(coordinator):
    assert stat.S_IMODE(coordinator.folder.stat().st_mode) == 0o700
    for path in coordinator.folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_coordinator_in_the_folder_is_refused(coordinator):
    with pytest.raises(DeployError, match="holds a coordinator already"):
        make_coordinator(coordinator.folder, "ct.example.org")


@pytest.mark.parametrize("host", ["", ":8443", "name:port", "name:0", "name:70000"])
def test_a_host_that_cannot_be_dialled_is_refused(tmp_path, host):
    with pytest.raises(DeployError, match="NAME:PORT"):
        make_coordinator(tmp_path / "new", host)
    assert not (tmp_path / "new").exists()


def test_a_folder_without_coordinator_says_how_to_make_one(tmp_path):
    with pytest.raises(DeployError, match="coordinator init"):
        open_coordinator(tmp_path)


def test_a_kit_holds_what_a_hospital_needs_and_no_secret(coordinator, key):
    kit = enrol(coordinator, "north", key("north"))
    assert sorted(path.name for path in kit.iterdir()) == ["ca.crt", "kit.yaml"]
    told = {"hospital": "north", "address": "ct.example.org:9443", "mtls": False}
    assert yaml.safe_load((kit / "kit.yaml").read_text()) == told
    assert (kit / "ca.crt").read_bytes() == coordinator.authority.certificate.read_bytes()
    assert all(b"PRIVATE" not in path.read_bytes() for path in kit.iterdir())


def test_a_key_s_spoken_fingerprint_is_openssh_s(key):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    path = key("north")
    said = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout
    assert said.split()[1] == Enrolled("north", read_key(path)).spoken


def test_a_key_belongs_to_one_hospital(coordinator, key):
    north = key("north")
    enrol(coordinator, "north", north)
    with pytest.raises(DeployError, match="this key is north's"):
        enrol(coordinator, "south", north)
    with pytest.raises(DeployError, match="north is enrolled already with another key"):
        enrol(coordinator, "north", key("other"))
    assert [member.hospital for member in enrolled(coordinator)] == ["north"]


def test_a_revoked_key_stays_out_and_a_new_one_may_come_in(coordinator, key):
    first = key("first")
    enrol(coordinator, "north", first)
    revoke(coordinator, "north")
    assert enrolled(coordinator) == []
    assert not (coordinator.kits / "north").exists()
    with pytest.raises(DeployError, match="revoked"):
        enrol(coordinator, "north", first)
    enrol(coordinator, "north", key("second"))
    events = [line["event"] for line in audit_log.read(coordinator.folder / "audit.jsonl")]
    assert events == ["coordinator-made", "hospital-enrolled", "hospital-revoked", "hospital-enrolled"]


def test_a_hospital_that_is_not_enrolled_cannot_be_revoked(coordinator):
    with pytest.raises(DeployError, match="there are: none"):
        revoke(coordinator, "north")


@pytest.mark.parametrize("name", ["", "../north", "north/x", "-north", "a b", "n" * 64, "nörth"])
def test_a_name_that_could_be_a_path_is_refused(coordinator, key, name):
    with pytest.raises(DeployError, match="no name for a hospital"):
        enrol(coordinator, name, key("some"))


def test_only_keys_that_flower_accepts_are_enrolled(coordinator, tmp_path):
    for text in (b"no key at all", _public(ed25519.Ed25519PrivateKey.generate())):
        (tmp_path / "wrong.pub").write_bytes(text)
        with pytest.raises(DeployError, match=r"OpenSSH public key|NIST curve"):
            enrol(coordinator, "north", tmp_path / "wrong.pub")


def test_an_enrolled_hospital_gets_a_new_kit_and_nothing_else_changes(coordinator, key):
    north = key("north")
    kit = enrol(coordinator, "north", north)
    shutil.rmtree(kit)
    registered = (coordinator.hospitals / "north.pub").stat().st_mtime_ns
    assert (enrol(coordinator, "north", north) / "kit.yaml").exists()
    assert (coordinator.hospitals / "north.pub").stat().st_mtime_ns == registered
    assert audit_log.read(coordinator.folder / "audit.jsonl")[-1]["event"] == "kit-renewed"


def test_under_mtls_a_hospital_needs_a_request(tmp_path, key):
    strict = make_coordinator(tmp_path / "strict", "ct.example.org", mtls=True)
    with pytest.raises(DeployError, match="client certificates"):
        enrol(strict, "north", key("north"))
    assert enrolled(strict) == []


# --- the proxy's configuration ------------------------------------------------------------------------------------


def test_nothing_but_the_fleet_paths_is_forwarded(coordinator):
    lines = [line.strip() for line in nginx.configuration(coordinator).splitlines()]
    opened = [line for line in lines if line.startswith("location")]
    assert "location / { return 404; }" in opened
    exact = {line.split()[2] for line in opened if line.startswith("location = ")}
    assert exact == {f"/v1/fleet/{path}" for path in nginx.FLEET}
    assert len(opened) == len(exact) + 1
    assert sum(line.startswith("proxy_pass ") for line in lines) == len(exact)
    assert sum(line.startswith("if ($request_method != POST)") for line in lines) == len(exact)


def test_the_fleet_paths_are_those_of_the_flower_that_is_installed():
    used = {
        word.partition('"')[0] for word in Path(fleet_http_client.__file__).read_text().split('path="/v1/fleet/')[1:]
    }
    assert used - set(nginx.FLEET) == {"register-node", "unregister-node"}
    assert set(nginx.FLEET) <= used


@pytest.mark.parametrize("mtls", [False, True])
def test_nginx_itself_accepts_the_configuration(tmp_path, mtls):
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx (apt-get install nginx)")
    made = make_coordinator(tmp_path / "coordinator", "localhost:19443", mtls=mtls)
    object.__setattr__(made, "state_dir", tmp_path / "state")
    made.state_dir.mkdir()
    path = nginx.write_configuration(made)
    done = subprocess.run([*nginx.command(path), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("ssl_verify_client on;" in path.read_text()) == mtls


def test_a_machine_without_nginx_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(nginx.shutil, "which", lambda *_, **__: None)
    with pytest.raises(DeployError, match="apt-get install nginx"):
        nginx.command(tmp_path / "nginx.conf")


def _public(key):
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
