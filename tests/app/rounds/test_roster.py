import json

import pytest

from app.rounds.lock import alone
from app.rounds.roster import NODES, Enrolled, Introduced, Planned, roster_of


class Nodes:
    """A grid with nodes online."""

    def __init__(self, *ids):
        self.ids = ids

    def get_node_ids(self):
        return self.ids


def test_a_node_is_the_hospital_whose_key_it_proved(tmp_path):
    (tmp_path / "nodes.json").write_text(json.dumps({"11": "north", "12": "south", "13": "east"}))
    roster = Enrolled(["north", "south"], tmp_path / "nodes.json")
    assert roster(Nodes(11, 13, 99)) == {"north": 11}
    assert roster(Nodes(12, 11)) == {"south": 12, "north": 11}


def test_no_register_yet_is_no_hospital(tmp_path):
    assert Enrolled(["north"], tmp_path / "nodes.json")(Nodes(11)) == {}


def test_a_coordinator_s_register_wins_over_what_nodes_say_of_themselves(monkeypatch, tmp_path):
    monkeypatch.delenv(NODES, raising=False)
    assert isinstance(roster_of("nodes", ["north"]), Introduced)
    monkeypatch.setenv(NODES, str(tmp_path / "nodes.json"))
    assert isinstance(roster_of("nodes", ["north"]), Enrolled)
    assert isinstance(roster_of("plan", ["north"]), Planned)


def test_a_run_folder_has_one_writer_at_a_time(tmp_path):
    with (
        alone(tmp_path),
        pytest.raises(ValueError, match="another process is running"),
        alone(tmp_path, patience=0.1),
    ):
        pytest.fail("two held the folder")
    with alone(tmp_path, patience=0.1):
        assert (tmp_path / "lock").exists()
