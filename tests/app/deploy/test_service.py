"""No service manager and no container engine runs here: the files are judged by what they say."""

import configparser
import shutil
import subprocess

import pytest
import yaml

from app.deploy.service import Role, write_container, write_systemd


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
    service = unit(write_systemd(made))["Service"]
    command, verb, action, folder = service["ExecStart"].split()
    assert shutil.which(command), command
    assert (verb, action, folder) == (role, "start", str(made.folder))
    assert (service["Restart"], service["RestartSec"]) == ("always", "15")


def test_a_unit_runs_without_root_and_writes_into_its_folder_alone(site):
    service = unit(write_systemd(site))["Service"]
    assert service["User"] != "root"
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert service["ReadWritePaths"] == str(site.folder)


def test_systemd_accepts_the_unit(site):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    path = write_systemd(site)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert str(path.name) not in done.stderr, done.stderr


def test_a_hospital_s_container_opens_no_port_and_cannot_change_the_scans(site, tmp_path):
    _, path = write_container(site)
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
    path, _ = write_container(site)
    instructions = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line and line[0].isupper()]
    assert instructions[0][0] == "FROM"
    users = [rest for word, rest in instructions if word == "USER"]
    assert users == ["10001"]
    copied = " ".join(rest for word, rest in instructions if word == "COPY")
    assert all(name in copied for name in ("app", "data", "models", "strategies", "conf", "pyproject.toml"))
