"""Registrations follow the folder, and trouble is said once; the processes themselves are in tests/deploy."""

import contextlib
import errno
import fcntl
import json
import shutil
import signal
import socket
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from app.deploy import audit_log, watch
from app.deploy import serve as serve_module
from app.deploy.control import FlowerRun, Node
from app.deploy.coordinator import Coordinator
from app.deploy.enrolment import enrolled, revoke
from app.deploy.errors import DeployError
from app.deploy.issued import write_list
from app.deploy.serve import environment, serve
from app.deploy.watch import Watch, register
from app.rounds.folder import RunFolder
from app.rounds.roster import NODES


class Register:
    """What a SuperLink remembers of SuperNodes."""

    def __init__(self):
        self.known: dict[int, Node] = {}

    def nodes(self):
        return list(self.known.values())

    def register(self, name, key):
        number = 10 + len(self.known)
        self.known[number] = Node(number, name, key, "registered", "")
        return number

    def unregister(self, node):
        del self.known[node]


def test_the_register_becomes_what_is_enrolled_and_nodes_are_named(coordinator):
    flower = Register()
    assert sorted(register(coordinator, flower)) == ["north may connect", "south may connect"]
    names = json.loads(coordinator.nodes.read_text())
    assert {names[str(node.id)] for node in flower.nodes()} == {"north", "south"}
    assert {node.key for node in flower.nodes()} == {member.spki for member in enrolled(coordinator)}


def test_a_second_look_changes_nothing(coordinator):
    flower = Register()
    register(coordinator, flower)
    before = dict(flower.known)
    assert register(coordinator, flower) == []
    assert flower.known == before


def test_who_was_revoked_is_shut_out_and_named_no_more(coordinator):
    flower = Register()
    register(coordinator, flower)
    revoke(coordinator, "north")
    assert register(coordinator, flower) == ["north is not enrolled any more and was shut out"]
    assert list(json.loads(coordinator.nodes.read_text()).values()) == ["south"]


def test_a_key_that_somebody_registered_around_the_folder_is_shut_out(coordinator):
    flower = Register()
    flower.register("intruder", b"a key of nobody")
    register(coordinator, flower)
    assert {node.name for node in flower.nodes()} == {"north", "south"}


@dataclass
class Up:
    """A coordinator that is up, as far as a watch can see."""

    coordinator: Coordinator
    news: str = ""

    def check(self):
        pass

    def revive(self):
        return self.news

    def reload(self):
        pass


@pytest.fixture
def watched(coordinator, monkeypatch):
    """A look at a coordinator without runs, and what it said; asks the SuperLink at every look."""
    coordinator.state_dir.mkdir(parents=True)
    flower, said = Register(), []
    flower.runs = list
    register(coordinator, flower)
    monkeypatch.setattr(watch, "control", lambda _: contextlib.nullcontext(flower))
    monkeypatch.setattr(watch, "ASK_SECONDS", 0.0)
    yield Watch(Up(coordinator), said.append), flower, said
    shutil.rmtree(coordinator.state_dir)


def test_little_room_for_flower_s_state_is_said_once_and_so_is_its_end(watched, monkeypatch):
    look, _, said = watched
    free = {"mb": 150.0}
    monkeypatch.setattr(watch.shutil, "disk_usage", lambda _: SimpleNamespace(free=free["mb"] * 1e6))
    look.look()
    look.look()
    assert [line.partition(" are left")[0] for line in said] == ["150 MB"]
    free["mb"] = 900.0
    look.look()
    assert said[1:] == [line for line in said[1:] if line.startswith("900 MB") and line.endswith("enough")]
    assert len(said) == 2


def test_what_could_not_be_written_down_is_said_once_and_seen_again(watched, monkeypatch):
    look, flower, said = watched
    flower.runs = lambda: [FlowerRun(7, "running", "ab" * 32, "/runs/one")]

    def full(self, event, **facts):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Coordinator, "record", full)
        look.look()
        look.look()
    assert [line for line in said if "No space left" in line] == said
    assert len(said) == 1
    look.look()
    assert said[1].startswith("run 7 began")


def test_the_audit_log_follows_a_run_from_its_first_round_to_its_end(watched, coordinator, tmp_path):
    look, flower, _ = watched
    going = RunFolder(tmp_path)
    for round, status in enumerate(("running", "running", "finished:completed"), start=1):
        flower.runs = lambda status=status: [FlowerRun(7, status, "ab" * 32, str(tmp_path))]
        going.append({"leg": "", "round": round, "asked": [], "reports": {}, "bytes_up": {}, "refused": []})
        look.look()
    events = [line for line in audit_log.read(coordinator.folder / "audit.jsonl") if line.get("run") == "7"]
    assert [line["event"] for line in events] == ["run-seen", "round", "round", "round", "run-ended"]
    assert [line["round"] for line in events[1:4]] == [1, 2, 3]
    assert events[-1]["scored"] == []


def test_what_was_started_again_is_said(watched, coordinator):
    _, _, said = watched
    Watch(Up(coordinator, news="started again"), said.append).look()
    assert said == ["started again"]


def test_the_proxy_reads_again_which_certificates_were_withdrawn(watched, coordinator, monkeypatch):
    look, _, said = watched
    again = []
    monkeypatch.setattr(Up, "reload", lambda up: again.append("reload"))
    look.look()
    assert again == []
    write_list(coordinator)
    look.look()
    look.look()
    assert again == ["reload"]
    assert said == []


def test_flower_s_processes_find_their_own_home_and_the_register(coordinator):
    found = environment(coordinator)
    assert found["FLWR_HOME"] == str(coordinator.flower_home)
    assert found[NODES] == str(coordinator.nodes)


def test_a_coordinator_that_runs_already_is_not_started_twice(coordinator):
    with (coordinator.flower_home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DeployError, match="runs already"):
            serve(coordinator, lambda _: None)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (apt-get install nginx)")
def test_a_port_in_use_is_said_before_anything_starts(coordinator):
    with socket.create_server(("127.0.0.1", coordinator.listen)), pytest.raises(DeployError, match="is in use"):
        serve(coordinator, lambda _: None)
    assert not coordinator.state_dir.exists()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (apt-get install nginx)")
def test_a_second_interrupt_does_not_keep_what_hospitals_sent(coordinator, monkeypatch):
    said = []

    def interrupted(*_):
        raise KeyboardInterrupt

    def stopped(parts):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(serve_module, "_wait", interrupted)
    monkeypatch.setattr(serve_module, "_superlink_command", lambda _: ["true"])
    stop = serve_module.Parts.stop
    monkeypatch.setattr(serve_module.Parts, "stop", lambda parts: (stopped(parts), stop(parts)))
    with pytest.raises(KeyboardInterrupt):
        serve(coordinator, said.append)
    assert not coordinator.state_dir.exists()
    assert any(line.startswith("stopping") for line in said)
