import io
import json
import zipfile

import pytest

from app.cli import main
from app.config import compose
from app.deploy import audit_log
from app.deploy.approval import approvals
from app.deploy.hospital import open_hospital
from app.fingerprint import approval_hashes


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ct").mkdir()
    assert main(["site", "init", str(tmp_path / "north"), "--name", "north", "--data", str(tmp_path / "ct")]) == 0
    return tmp_path / "north"


@pytest.fixture
def bundle(tmp_path):
    def write(text, name="one.fab"):
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as archive:
            archive.writestr("app/x.py", text)
        (tmp_path / name).write_bytes(held.getvalue())
        return str(tmp_path / name)

    return write


def test_init_prints_the_key_that_is_to_be_sent_and_not_the_other(tmp_path, capsys):
    assert main(["site", "init", str(tmp_path / "north"), "--name", "north", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "north/keys/node.pub").read_text().strip() in printed
    assert "PRIVATE" not in printed


def test_init_writes_what_the_operating_system_needs_with_the_data_read_only(tmp_path, capsys):
    (tmp_path / "ct").mkdir()
    flags = ["--name", "north", "--data", str(tmp_path / "ct"), "--systemd", "--container", "--mtls"]
    assert main(["site", "init", str(tmp_path / "north"), *flags]) == 0
    assert f"{tmp_path / 'ct'}:{tmp_path / 'ct'}:ro" in (tmp_path / "north/container/compose.yaml").read_text()
    assert "site start" in (tmp_path / "north/systemd/fedvox-site.service").read_text()
    assert (tmp_path / "north/keys/client.key").stat().st_mode & 0o777 == 0o600
    assert str(tmp_path / "north/keys/client.csr") in capsys.readouterr().out


def test_what_init_needs_it_names_where_nobody_can_be_asked(tmp_path, capsys):
    assert main(["site", "init", str(tmp_path / "x"), "--data", str(tmp_path)]) == 2
    assert "give --name" in capsys.readouterr().err


def test_a_kit_is_taken_in_by_a_second_init(folder, tmp_path, capsys):
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "ca.crt").write_text("authority")
    (kit / "kit.yaml").write_text("hospital: north\naddress: ct.example.org:8443\n")
    for _ in range(2):
        assert main(["site", "init", str(folder), "--kit", str(kit)]) == 0
    assert "ct.example.org:8443" in capsys.readouterr().out
    (kit / "kit.yaml").write_text("hospital: south\naddress: ct.example.org:8443\n")
    assert main(["site", "init", str(folder), "--kit", str(kit)]) == 1


def test_nothing_is_approved_unless_somebody_says_so(folder, bundle, capsys):
    assert main(["site", "approve", str(folder), bundle("a = 1\n")]) == 2
    assert "--yes" in capsys.readouterr().err
    assert approvals(open_hospital(folder)) == []


def test_approving_shows_what_changed_since_the_last_time(folder, bundle, capsys):
    assert main(["site", "approve", str(folder), bundle("a = 1\n"), "--yes"]) == 0
    assert "nothing to compare" in capsys.readouterr().out
    assert main(["site", "approve", str(folder), bundle("a = 2\n", "two.fab"), "--yes"]) == 0
    printed = capsys.readouterr().out
    assert "-a = 1" in printed
    assert "+a = 2" in printed
    assert "policy-code" in printed  # what is installed here is other code than such a bundle's
    assert len(approvals(open_hospital(folder))) == 2


def test_a_bundle_under_review_cannot_steer_the_terminal_it_is_shown_on(folder, bundle, capsys):
    assert main(["site", "approve", str(folder), bundle("a = 1\n"), "--yes"]) == 0
    hiding = "steal()\n# \x1b[1A\x1b[2K harmless\n# \u202eturned around\r+b = 2\n"
    offered = bundle(hiding, "two.fab")
    with zipfile.ZipFile(offered, "a") as archive:
        archive.writestr("app/\x1b[2Jy.py", "x")
    capsys.readouterr()
    assert main(["site", "approve", str(folder), offered, "--yes"]) == 0
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n"))
    assert "+steal()" in printed.split("\n")
    assert "+# \\x1b[1A\\x1b[2K harmless" in printed.split("\n")
    assert "  app/\\x1b[2Jy.py" in printed.split("\n")


def test_an_approval_may_be_for_some_configurations_alone(folder, bundle, capsys):
    assert main(["site", "approve", str(folder), bundle("a = 1\n"), "--yes", "--only", "experiment=private_demo"]) == 0
    (approval,) = approvals(open_hospital(folder))
    assert approval.configurations == approval_hashes(compose(["experiment=private_demo"]))[:1]
    assert " rounds, ε " in capsys.readouterr().out


def test_an_approval_can_be_taken_back_and_both_stand_in_the_audit_log(folder, bundle, capsys):
    assert main(["site", "approve", str(folder), bundle("a = 1\n"), "--yes"]) == 0
    (approval,) = approvals(open_hospital(folder))
    assert main(["site", "approve", str(folder), "--withdraw", approval.sha256[:12]]) == 0
    assert main(["site", "approve", str(folder)]) == 0
    assert "no bundle is approved" in capsys.readouterr().out
    events = [line["event"] for line in audit_log.read(folder / "audit.jsonl")]
    assert events == ["hospital-made", "bundle-approved", "approval-withdrawn"]


def test_check_names_everything_that_is_not_ready_yet_and_says_so_to_scripts(folder, capsys):
    assert main(["site", "check", str(folder), "--json"]) == 1
    found = {finding["code"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["approved"]["level"] == "REFUSED"
    assert found["coordinator"]["level"] == "REFUSED"
    assert "site init DIR --kit" in found["coordinator"]["what"]
    assert found["key"]["level"] == found["ledger"]["level"] == "NOTE"
    assert any(
        finding["level"] == "REFUSED" for finding in found.values() if finding["code"].startswith(("no-", "empty"))
    )
    (folder / "keys" / "node").chmod(0o644)
    assert main(["site", "check", str(folder), "--no-data"]) == 1
    assert "REFUSED key others may read" in capsys.readouterr().out


def test_a_site_file_that_is_broken_is_named_with_its_line(folder, capsys):
    (folder / "site.yaml").write_text("name: north\nsauce: {}\n")
    assert main(["site", "check", str(folder)]) == 1
    assert "site.yaml:2: unknown field 'sauce'" in capsys.readouterr().out


def test_start_without_a_kit_says_what_is_missing(folder, capsys):
    assert main(["site", "start", str(folder)]) == 1
    assert "no kit of the coordinator" in capsys.readouterr().err
