"""A door that asks for a client certificate, too."""

import json
import ssl

import httpx
import pytest

from app.cli import main
from app.deploy import certificates
from app.deploy.certificates import Pair
from tests.deploy.conftest import ONLINE_SECONDS, founded
from tests.deploy.processes import TINY

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


@pytest.fixture(scope="module")
def up(tmp_path_factory, cohort, bundle):
    """A coordinator that asks for client certificates, and one hospital online."""
    with founded(tmp_path_factory.mktemp("mtls"), "--mtls") as federation:
        federation.enrol("north", cohort, bundle)
        federation.start_coordinator()
        federation.start_site("north").wait_for("connected to the coordinator", ONLINE_SECONDS)
        yield federation


def answer(up, certificate=None, key=None):
    trust = ssl.create_default_context(cafile=str(up.coordinator.authority.certificate))
    if certificate:
        trust.load_cert_chain(certificate, key)
    with httpx.Client(verify=trust) as client:
        return client.post(
            f"https://{up.coordinator.address}/v1/fleet/pull-messages",
            content=b"",
            headers={"content-type": "application/protobuf"},
        )


def test_without_a_client_certificate_nobody_reaches_the_superlink(up):
    refused = answer(up)
    assert refused.status_code == 400
    assert "No required SSL certificate" in refused.text


def test_a_certificate_of_another_authority_is_refused(up, tmp_path):
    other = Pair(tmp_path / "ca.crt", tmp_path / "ca.key")
    certificates.make_authority(other, "other")
    pair = Pair(tmp_path / "client.crt", tmp_path / "client.key")
    certificates.make_server(other, pair, ["north"])
    assert answer(up, pair.certificate, pair.key).status_code == 400


def test_a_certificate_that_has_ended_is_refused(up, tmp_path):
    keys, ended = up.site("north") / "keys", tmp_path / "ended.crt"
    request = (keys / "client.csr").read_bytes()
    ended.write_bytes(certificates.make_client(up.coordinator.authority, request, "north", days=-1))
    assert answer(up, ended, keys / "client.key").status_code == 400


def test_with_one_the_key_is_asked_for_all_the_same(up):
    site = up.site("north")
    assert answer(up, site / "kit" / "client.crt", site / "keys" / "client.key").status_code == 401


def test_a_run_goes_through(up, tmp_path):
    run_dir = tmp_path / "run"
    run = up.run(run_dir, *TINY, "quorum=1", "rounds=1")
    assert run.ended(240) == 0, run.said()
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "completed"


def test_a_renewed_certificate_opens_the_door_and_a_revoked_hospital_s_opens_nothing(up):
    site, name = up.site("north"), "north"
    before = (site / "kit" / "client.crt").read_bytes()
    key, request = str(site / "keys" / "node.pub"), str(site / "keys" / "client.csr")
    assert main(["site", "init", str(site), "--mtls"]) == 0
    assert main(["coordinator", "enrol", name, key, "--request", request, "--dir", str(up.home)]) == 0
    assert main(["site", "init", str(site), "--kit", str(up.coordinator.kits / name)]) == 0
    client = (site / "kit" / "client.crt", site / "keys" / "client.key")
    assert client[0].read_bytes() != before
    assert answer(up, *client).status_code == 401
    assert main(["coordinator", "revoke", name, "--dir", str(up.home)]) == 0
    up.running[1].wait_for("did not accept this hospital's client certificate", 60)
    assert answer(up, *client).status_code == 400
