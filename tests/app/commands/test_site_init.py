"""`fedvox site init`: a new hospital from flags or from answers, and what is added to one that stands."""

import sys

import pytest
import yaml

from app.cli import main
from app.deploy.coordinator import make_coordinator
from app.deploy.enrolment import enrol
from app.deploy.hospital import open_hospital


@pytest.fixture
def data(tmp_path):
    (tmp_path / "ct").mkdir()
    return tmp_path / "ct"


@pytest.fixture
def person(monkeypatch):
    """Somebody at the terminal with answers; what was asked."""
    asked = []

    def sit_down(*answers):
        waiting = iter(answers)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda question: (asked.append(question), next(waiting))[1])
        return asked

    return sit_down


def made(folder):
    return open_hospital(folder).site()


def test_a_person_is_asked_for_name_data_device_and_cap(tmp_path, data, person):
    asked = person("north", str(data), "cpu", "2.5")
    assert main(["site", "init", str(tmp_path / "north")]) == 0
    site = made(tmp_path / "north")
    assert (site.name, site.device, site.policy["epsilon_cap"]) == ("north", "cpu", 2.5)
    assert site.source["path"] == str(data)
    assert len(asked) == 4


def test_an_empty_answer_is_the_one_that_was_shown(tmp_path, data, person):
    asked = person("north", str(data), "", "")
    assert main(["site", "init", str(tmp_path / "north")]) == 0
    assert (made(tmp_path / "north").device, made(tmp_path / "north").policy["epsilon_cap"]) == ("auto", 8.0)
    assert "(auto)" in asked[2]
    assert "(8)" in asked[3]


def test_who_gave_name_and_data_is_asked_nothing(tmp_path, data, person):
    asked = person()
    assert main(["site", "init", str(tmp_path / "north"), "--name", "north", "--data", str(data)]) == 0
    assert asked == []


def test_a_cap_that_is_no_number_makes_no_hospital(tmp_path, data, person, capsys):
    person("north", str(data), "", "eight")
    assert main(["site", "init", str(tmp_path / "north")]) == 2
    assert "--epsilon-cap" in capsys.readouterr().err
    assert not (tmp_path / "north").exists()


def test_a_hospital_that_stands_makes_a_request_and_takes_a_new_kit_in(tmp_path, data, capsys):
    coordinator = make_coordinator(tmp_path / "coordinator", "localhost", mtls=True)
    north = tmp_path / "north"
    assert main(["site", "init", str(north), "--name", "north", "--data", str(data)]) == 0
    key = (north / "keys" / "node").read_bytes()
    given = []
    for _ in range(2):
        assert main(["site", "init", str(north), "--mtls"]) == 0
        assert str(north / "keys" / "client.csr") in capsys.readouterr().out
        kit = enrol(coordinator, "north", north / "keys" / "node.pub", request=north / "keys" / "client.csr")
        assert main(["site", "init", str(north), "--kit", str(kit)]) == 0
        given.append((north / "kit" / "client.crt").read_bytes())
    assert given[0] != given[1]
    assert (north / "keys" / "node").read_bytes() == key


def test_a_unit_can_be_written_later_with_what_site_yaml_says_by_then(tmp_path, data, capsys):
    north = tmp_path / "north"
    assert main(["site", "init", str(north), "--name", "north", "--data", str(data)]) == 0
    settings = yaml.safe_load((north / "site.yaml").read_text())
    settings["cache_dir"] = str(tmp_path / "large disk")
    settings["source"]["labels"] = str(tmp_path / "labels.csv")
    (north / "site.yaml").write_text(yaml.safe_dump(settings))
    assert main(["site", "init", str(north), "--systemd", "--container", "--user", "nobody"]) == 0
    unit = (north / "systemd" / "fedvox-site.service").read_text()
    assert f'ReadWritePaths={north} "{tmp_path / "large disk"}"' in unit
    (reads,) = (line for line in unit.splitlines() if line.startswith("ReadOnlyPaths="))
    assert set(reads.partition("=")[2].split()) == {f"-{data}", f"-{tmp_path / 'labels.csv'}"}
    volumes = yaml.safe_load((north / "container" / "compose.yaml").read_text())["services"]["site"]["volumes"]
    assert f"{tmp_path / 'labels.csv'}:{tmp_path / 'labels.csv'}:ro" in volumes
    assert "before the start" in capsys.readouterr().out


def test_a_second_hospital_in_the_folder_is_refused(tmp_path, data, capsys):
    flags = ["--name", "north", "--data", str(data)]
    assert main(["site", "init", str(tmp_path / "north"), *flags]) == 0
    assert main(["site", "init", str(tmp_path / "north"), *flags, "--mtls"]) == 1
    assert "stands" in capsys.readouterr().err
