import base64
import datetime
import json

import pytest
from cryptography import x509

from app.cli import main
from app.deploy import certificates, releases, status
from app.deploy.coordinator import make_coordinator, rotate
from app.deploy.enrolment import enrol, enrolled
from app.deploy.errors import DeployError
from app.deploy.keys import make_key, make_request
from app.processes import free_port


@pytest.fixture
def coordinator(tmp_path):
    made = make_coordinator(tmp_path / "coordinator", f"localhost:{free_port()}", superlink_port=free_port())
    make_key(tmp_path / "node", tmp_path / "node.pub", "north")
    enrol(made, "north", tmp_path / "node.pub")
    return made


def journal(coordinator, *lines):
    folder = coordinator.runs / "run"
    folder.mkdir()
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    coordinator.record("run-started", folder=str(folder), run="1")


def line(round, reports, refused=()):
    facts = {"round": round, "asked": ["north", "south"], "refused": list(refused)}
    return {"leg": "", **facts, "reports": {name: {} for name in reports}}


def test_it_says_what_to_do_where_nothing_runs(coordinator):
    found = status.status(coordinator)
    assert not found["running"]
    assert any("coordinator start" in finding for finding in found["findings"])


def test_a_hospital_s_last_round_and_last_refusal_are_those_of_the_last_run(coordinator):
    refusal = {"hospital": "north", "round": 2, "code": "cap"}
    journal(coordinator, line(1, ["north", "south"]), line(2, ["south"], [refusal]))
    found = status.status(coordinator)
    assert found["hospitals"]["north"]["last_round"] == 1
    assert found["hospitals"]["north"]["last_refusal"] == refusal
    assert (found["run"]["round"], found["run"]["answered"], found["run"]["state"]) == (2, ["south"], "going on")


def told(coordinator, release):
    """As the proxy writes it down."""
    key = base64.b64encode(enrolled(coordinator)[0].spki).decode()
    coordinator.state_dir.mkdir(parents=True, exist_ok=True)
    with releases.log_file(coordinator).open("a") as file:
        file.write(json.dumps({"key": key, "release": release}) + "\n")


def test_a_hospital_s_release_is_the_one_it_named_last(coordinator):
    told(coordinator, "0.0.9 0123456789abcdef")
    found = status.status(coordinator)
    assert found["hospitals"]["north"]["release"] == "0.0.9 0123456789abcdef"
    assert any("north has fedvox 0.0.9" in finding and "policy-code" in finding for finding in found["findings"])
    told(coordinator, releases.release())
    found = status.status(coordinator)
    assert found["hospitals"]["north"]["release"] == releases.release()
    assert not any("policy-code" in finding for finding in found["findings"])


def test_what_a_hospital_says_of_its_release_is_shown_in_plain_signs(coordinator):
    releases.log_file(coordinator).parent.mkdir(parents=True, exist_ok=True)
    releases.log_file(coordinator).write_text("torn\n[]\n")
    told(coordinator, "\x1b[31m0.1.0\n" + "x" * 200)
    assert status.status(coordinator)["hospitals"]["north"]["release"] == (r"\x1b[31m0.1.0\n" + "x" * 69)[:80]


def test_a_certificate_near_its_end_is_a_finding_until_it_is_rotated(coordinator):
    certificates.make_server(coordinator.authority, coordinator.server, ["localhost"], days=29)
    before = status.status(coordinator)["findings"]
    assert any("server certificate ends in 29 days" in finding for finding in before)
    rotate(coordinator)
    assert not any("certificate ends" in finding for finding in status.status(coordinator)["findings"])


def test_under_mtls_a_hospital_s_certificate_near_its_end_is_a_finding_until_it_is_renewed(
    tmp_path, monkeypatch, capsys
):
    made = make_coordinator(tmp_path / "strict", f"localhost:{free_port()}", superlink_port=free_port(), mtls=True)
    make_key(tmp_path / "node", tmp_path / "node.pub", "north")
    make_request(tmp_path / "client.key", tmp_path / "client.csr", "north")

    def about_it(days):
        with monkeypatch.context() as patched:
            defaults = {"days": days}
            patched.setattr(certificates.make_client, "__kwdefaults__", defaults)
            enrol(made, "north", tmp_path / "node.pub", request=tmp_path / "client.csr")
        found = status.status(made)
        return [finding for finding in found["findings"] if "client certificate of hospital north" in finding]

    for days, told in ((-3, "ended 3 days ago"), (29, "ends in 29 days")):
        (finding,) = about_it(days)
        assert told in finding
        assert "--request" in finding
    assert about_it(397) == []
    main(["coordinator", "status", str(made.folder)])
    assert "certificate 397 days" in capsys.readouterr().out


def test_rotation_keeps_the_authority_so_that_kits_stay_good(coordinator):
    authority, old = coordinator.authority.read(), coordinator.server.read()
    rotate(coordinator)
    assert coordinator.authority.read() == authority
    new = coordinator.server.read()
    assert new.serial_number != old.serial_number
    new.verify_directly_issued_by(authority)
    assert certificates.names_of(new) == ["localhost"]


def test_an_authority_near_its_end_signs_nothing_more(coordinator):
    certificates.make_authority(coordinator.authority, "localhost", days=20)
    with pytest.raises(DeployError, match="new coordinator folder"):
        rotate(coordinator)


def test_the_verb_prints_a_line_each_and_ends_with_1_for_findings(coordinator, capsys):
    assert main(["coordinator", "status", str(coordinator.folder)]) == 1
    said = capsys.readouterr().out
    assert "hospital north: unknown, in no round yet" in said
    assert "! the coordinator is not running" in said
    assert main(["coordinator", "status", str(coordinator.folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["hospitals"]["north"]["state"] == "unknown"


def test_a_certificate_begins_before_now_for_clocks_that_are_behind(coordinator):
    server: x509.Certificate = coordinator.server.read()
    behind = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(minutes=30)
    assert server.not_valid_before_utc < behind
