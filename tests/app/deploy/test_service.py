"""No service manager and no container engine runs here: the files are judged by what they say."""

import configparser
import os
import pwd
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from app.deploy import service
from app.deploy.errors import DeployError
from app.deploy.service import Account, Role, account, handing_over, write_container, write_systemd


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "north"
    folder.mkdir()
    return Role("site", folder, reads=[tmp_path / "data"])


@pytest.fixture
def coordinator(tmp_path):
    folder = tmp_path / "coordinator"
    folder.mkdir()
    return Role("coordinator", folder, port=8443)


def unit(path):
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read(path)
    return parsed


@pytest.mark.parametrize("role", ["site", "coordinator"])
def test_a_unit_starts_its_side_again_whatever_ends_it(role, request):
    made = request.getfixturevalue(role)
    lines = unit(write_systemd(made))["Service"]
    command, verb, action, folder = lines["ExecStart"].split()
    assert shutil.which(command), command
    assert (verb, action, folder) == (role, "start", str(made.folder))
    assert (lines["Restart"], lines["RestartSec"]) == ("always", "15")


def test_a_unit_runs_without_root_and_writes_into_its_folder_alone(site):
    service = unit(write_systemd(site))["Service"]
    assert service["User"] != "root"
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert service["ReadWritePaths"] == str(site.folder)


@pytest.fixture
def taken_over(tmp_path):
    """A hospital whose site.yaml keeps cache, state and ledger's key elsewhere."""
    (tmp_path / "north").mkdir()
    (tmp_path / "site").mkdir()
    writes = [tmp_path / "north" / "cache", tmp_path / "site" / "state", tmp_path / "keys of north"]
    return Role("site", tmp_path / "north", [tmp_path / "ct", tmp_path / "labels.csv"], writes)


def test_a_unit_may_write_wherever_site_yaml_says_and_change_no_scan(taken_over, tmp_path):
    service = unit(write_systemd(taken_over))["Service"]
    assert shlex.split(service["ReadWritePaths"]) == [
        str(tmp_path / "north"), str(tmp_path / "site" / "state"), str(tmp_path / "keys of north"),
    ]  # fmt: skip
    assert service["ReadOnlyPaths"].split() == [f"-{tmp_path / 'ct'}", f"-{tmp_path / 'labels.csv'}"]
    assert (tmp_path / "site" / "state").is_dir(), "a path that is not there keeps a unit from starting"


def test_a_container_has_all_paths_of_site_yaml(taken_over, tmp_path):
    _, path, _ = write_container(taken_over)
    volumes = yaml.safe_load(path.read_text())["services"]["site"]["volumes"]
    for name in ("north", "site/state", "keys of north"):
        assert f"{tmp_path / name}:{tmp_path / name}" in volumes
    for name in ("ct", "labels.csv"):
        assert f"{tmp_path / name}:{tmp_path / name}:ro" in volumes


def test_the_gpu_is_a_file_of_its_own_that_is_added_to_the_other(site):
    *_, plain, more = write_container(site)
    added = yaml.safe_load(more.read_text())["services"]
    assert added.keys() == yaml.safe_load(plain.read_text())["services"].keys()
    (device,) = added["site"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def owned_by(monkeypatch, uid):
    """Have every folder be somebody's."""
    real = type(Path()).stat

    def stat(path, **how):
        facts = list(real(path, **how))
        facts[4] = uid
        return os.stat_result(facts)

    monkeypatch.setattr(type(Path()), "stat", stat)


def test_a_service_runs_as_the_one_whose_folder_it_is(site, monkeypatch):
    owned_by(monkeypatch, pwd.getpwnam("nobody").pw_uid)
    assert account(site).name == "nobody"
    assert unit(write_systemd(site))["Service"]["User"] == "nobody"
    assert list(handing_over(site, by_name=True)) == []


def test_where_the_folder_is_root_s_another_account_is_named_and_the_folder_is_to_be_its(site, monkeypatch):
    owned_by(monkeypatch, 0)
    monkeypatch.setattr(service.pwd, "getpwnam", lambda _: {}["no such account"])
    assert account(site) == Account("fedvox", 10001, 10001)
    for by_name, owner in ((True, "fedvox:"), (False, "10001:10001")):
        assert list(handing_over(site, by_name=by_name)) == [f"before the start: sudo chown -R {owner} {site.folder}"]
    _, path, _ = write_container(site)
    assert yaml.safe_load(path.read_text())["services"]["site"]["user"] == "10001:10001"


def test_another_account_may_be_named_but_not_root(site):
    assert unit(write_systemd(replace(site, user="nobody")))["Service"]["User"] == "nobody"
    assert account(replace(site, user="12345")) == Account("12345", 12345, 12345)
    with pytest.raises(DeployError, match="as root"):
        account(replace(site, user="root"))


def test_systemd_accepts_the_unit(site):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    path = write_systemd(site)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert str(path.name) not in done.stderr, done.stderr


def test_a_hospital_s_container_opens_no_port_and_cannot_change_the_scans(site, tmp_path):
    _, path, _ = write_container(site)
    service = yaml.safe_load(path.read_text())["services"]["site"]
    assert "ports" not in service
    assert f"{tmp_path / 'data'}:{tmp_path / 'data'}:ro" in service["volumes"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["command"] == ["site", "start", str(site.folder)]


def test_a_coordinator_s_container_opens_its_one_port(coordinator):
    _, path = write_container(coordinator)
    service = yaml.safe_load(path.read_text())["services"]["coordinator"]
    assert service["ports"] == ["8443:8443"]
    assert not service["user"].startswith("0:")


def test_the_image_is_not_root_and_copies_what_a_bundle_is_made_of(site):
    path, *_ = write_container(site)
    instructions = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line and line[0].isupper()]
    assert instructions[0][0] == "FROM"
    users = [rest for word, rest in instructions if word == "USER"]
    assert users == ["10001"]
    copied = " ".join(rest for word, rest in instructions if word == "COPY")
    assert all(name in copied for name in ("app", "data", "models", "strategies", "conf", "pyproject.toml"))
