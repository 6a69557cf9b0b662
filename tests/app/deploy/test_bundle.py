import io
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from app.config import CONF
from app.deploy import bundle
from app.deploy.approval import approval_of, approvals, approve, last_bundle, withdraw
from app.deploy.bundle import changed, differences, digest, read_bundle
from app.deploy.errors import DeployError
from app.deploy.founding import Founding
from app.deploy.hospital import make_hospital
from app.fingerprint import code_hash


def zipped(**files):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_py", ".py"), content)
    return held.getvalue()


OLD = zipped(app__one_py="a = 1\nb = 2\n", conf__x="x", README="old")
NEW = zipped(app__one_py="a = 1\nb = 3\n", app__two_py="c = 1\n", conf__x="x")


@pytest.fixture
def hospital(tmp_path):
    return make_hospital(tmp_path / "north", Founding("north", tmp_path).settings())


def test_the_code_of_the_bundle_that_flower_would_send_is_the_code_that_stands_here():
    content = build_fab_from_disk(CONF.parent)
    assert read_bundle(content).code == code_hash.__wrapped__()
    assert read_bundle(content).sha256 == digest(content)


def test_code_is_what_fingerprints_count_and_nothing_else():
    before = read_bundle(OLD)
    assert read_bundle(zipped(app__one_py="a = 1\nb = 2\n", conf__x="y", README="new")).code == before.code
    assert read_bundle(NEW).code != before.code


def test_a_difference_names_files_that_changed_came_and_went():
    old, new = read_bundle(OLD).files, read_bundle(NEW).files
    assert changed(old, new) == ["README", "app/one.py", "app/two.py"]
    lines = list(differences(old, new))
    assert {"-b = 2", "+b = 3", "+c = 1", "-old", "--- /dev/null", "+++ /dev/null"} <= set(lines)
    assert list(differences(new, new)) == []


@pytest.mark.parametrize(
    ("approved", "offered"),
    [
        (b"# a note\x0bevil()\n", b"# a note\nevil()\n"),
        ("# a note\u2028evil()\n".encode(), b"# a note\nevil()\n"),
        (b"a = 1\n", b"a = 1\r"),
        (b"a = 1", b"a = 1\n"),
        (b"x = '\xff'\n", b"x = '\xfe'\n"),
    ],
)
def test_what_python_reads_otherwise_never_looks_the_same(approved, offered):
    files = [read_bundle(zipped(app__one_py=content)).files for content in (approved, offered)]
    assert [line for line in differences(*files) if line.startswith(("-", "+")) and "one" not in line]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04torn", OLD[:-30]])
def test_what_is_no_bundle_is_refused_in_words(content):
    with pytest.raises(DeployError, match="no Flower App Bundle"):
        read_bundle(content)


def test_a_bundle_that_would_fill_the_memory_is_not_opened(monkeypatch):
    monkeypatch.setattr(bundle, "MOST_BYTES", 10)
    with pytest.raises(DeployError, match="unpacked"):
        read_bundle(OLD)


def test_approval_is_of_bytes_and_lasts_until_it_is_withdrawn(hospital):
    made = approve(hospital, OLD, read_bundle(OLD), ["0123"])
    assert approval_of(hospital, digest(OLD)) == made
    assert approval_of(hospital, digest(OLD + b"\0")) is None
    assert made.configurations == ("0123",)
    assert withdraw(hospital, digest(OLD)[:10]) == made
    assert approval_of(hospital, digest(OLD)) is None
    with pytest.raises(DeployError, match="names 0 approved bundles"):
        withdraw(hospital, digest(OLD))


def test_the_next_bundle_is_compared_with_the_one_approved_last(hospital):
    assert last_bundle(hospital) is None
    for content in (NEW, OLD):
        approve(hospital, content, read_bundle(content))
    assert last_bundle(hospital) == read_bundle(OLD)
    assert [approval.sha256 for approval in approvals(hospital)] == [digest(NEW), digest(OLD)]


def test_records_are_the_owners_alone_and_a_hash_of_the_site_file_counts_too(hospital):
    approve(hospital, OLD, read_bundle(OLD))
    assert {path.stat().st_mode & 0o777 for path in hospital.approved.iterdir()} == {0o600}
    text = hospital.site_file.read_text()
    hospital.site_file.write_text(text.replace("approved_code: []", f"approved_code: [{digest(NEW)}]"))
    assert approval_of(hospital, digest(NEW)).configurations == ()


def test_a_record_that_was_renamed_or_torn_approves_nothing(hospital):
    approve(hospital, OLD, read_bundle(OLD))
    record = hospital.approved / f"{digest(OLD)}.json"
    renamed: Path = record.rename(hospital.approved / f"{digest(NEW)}.json")
    with pytest.raises(DeployError, match="speaks of another bundle"):
        approval_of(hospital, digest(NEW))
    renamed.write_text("{")
    with pytest.raises(DeployError, match="no record of an approval"):
        approval_of(hospital, digest(NEW))
