"""Wires: what a run comes through when they are cut, slow, long and lossy; and what of a hospital goes over them."""

import shutil

import pytest
import yaml

from tests.deploy.capture import Capture
from tests.deploy.conftest import ONLINE_SECONDS, amend
from tests.deploy.processes import SAME, STEADY, TINY, apart, journalled, rounds, wait_for_round
from tests.deploy.relay import Relay

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

RATE, DELAY_S, LOST_PERCENT = "2mbit", 0.1, 1
"""Each way; 200 ms there and back."""


TLS_HANDSHAKE = b"\x16\x03"
"""The first two bytes of a TLS record that opens a connection."""


def through(relay, site):
    """Send a hospital's connection through a wire of ours."""
    amend(site / "kit" / "kit.yaml", address=f"{relay.host}:{relay.port}")


def wire(federation, name):
    """What cuts a hospital off: its own wire where there are namespaces, else a relay."""
    if federation.network:
        return federation.network.ward(name)
    relay = Relay(federation.coordinator)
    through(relay, federation.site(name))
    return relay


def test_a_cut_wire_heals_and_the_hospital_is_in_the_rounds_again(two, tmp_path):
    cable = wire(two, "north")
    _, sites = two.up("north", "south")
    run_dir = tmp_path / "run"
    run = two.run(run_dir, *TINY, "quorum=1", "deadline_s=20", "rounds=60")
    wait_for_round(run_dir, 1)
    cable.cut()
    without = journalled(run_dir, lambda line: list(line["reports"]) == ["south"], 90)
    run.wait_for(f"hospital north is not in round {without['round']}", 10)
    cable.heal()
    journalled(run_dir, lambda line: line["round"] > without["round"] and "north" in line["reports"], 150)
    assert sites["north"].popen.poll() is None
    run.interrupt()
    assert f"fedvox run --resume {run_dir} --superlink {two.home}" in run.said()


def test_a_slow_long_and_lossy_wire_makes_the_same_model(two, tmp_path):
    ward = two.ward("north")
    _, sites = two.up("north", "south")
    assert two.run(tmp_path / "quick", *TINY, *STEADY, "rounds=2").ended(240) == 0
    assert sites["north"].interrupt() == 0
    relay = Relay(two.coordinator, delay_s=DELAY_S)
    through(relay, two.site("north"))
    ward.limit(RATE)
    ward.lose(LOST_PERCENT)
    two.start_site("north").wait_for("connected to the coordinator", ONLINE_SECONDS)
    slow = two.run(tmp_path / "slow", *TINY, *STEADY, "rounds=2", "deadline_s=240")
    assert slow.ended(400) == 0, slow.said()
    assert [sorted(line["reports"]) for line in rounds(tmp_path / "slow")] == [["north", "south"]] * 2
    assert apart(tmp_path / "quick", tmp_path / "slow") < SAME
    relay.close()


def test_nothing_that_names_a_patient_leaves_a_hospital_even_in_its_errors(two, tmp_path):
    coordinator, relay, site = two.start_coordinator(), Relay(two.coordinator), two.site("north")
    through(relay, site)
    folder = _moved(site, tmp_path / "planted-folder")
    labels = folder / "labels.csv"
    whole = labels.read_text()
    named = _names(folder, whole)
    labels.write_text(whole + "1.2.826.0.1.3680043.99,PLANTED,not,a,row,\n")
    for name in ("north", "south"):
        two.start_site(name)
        coordinator.wait_for(f"{name} is online", ONLINE_SECONDS)
    broken = two.run(tmp_path / "broken", *TINY, "rounds=1", "quorum=1")
    broken.ended(240)
    log = (site / "logs" / "hospital.log").read_bytes()
    assert b"PLANTED" in log, "the fault that was planted did not show at the hospital"
    labels.write_text(whole)
    healthy = two.run(tmp_path / "healthy", *TINY, "rounds=1")
    assert healthy.ended(240) == 0, healthy.said()
    assert len(relay.sent) > 50_000, "the wire saw no update"
    assert [word for word in named if word in relay.sent] == []
    code = two.coordinator.flower_home / "apps"
    places = (two.home, tmp_path / "broken", tmp_path / "healthy")
    kept = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_relative_to(code)]
    told = b"".join(path.read_bytes() for path in kept)
    told += broken.said().encode() + healthy.said().encode() + coordinator.said().encode()
    assert [word for word in named if word in told] == []
    relay.close()


def test_a_hospital_s_wire_carries_tls_to_the_coordinator_s_port_and_nothing_else(two, tmp_path):
    ward = two.ward("north")
    capture = Capture(ward.link)
    two.up("north", "south")
    assert two.run(tmp_path / "run", *TINY, "rounds=1").ended(240) == 0
    capture.close()
    door = (two.coordinator.host, two.coordinator.listen)
    ours = [packet for packet in capture.packets if packet.source[0] == ward.address]
    assert {packet.target for packet in ours} == {door}
    assert {packet.source for packet in capture.packets if packet not in ours} == {door}
    assert [packet for packet in capture.packets if packet.opens and packet.source == door] == []
    assert capture.others == []
    first = {}
    for packet in ours:
        if packet.payload:
            first.setdefault(packet.source[1], packet.payload)
    assert first
    assert {payload[:2] for payload in first.values()} == {TLS_HANDSHAKE}
    assert sum(len(packet.payload) for packet in ours) > 50_000, "the wire saw no update"
    print(f"{len(first)} connections, {len(ours)} packets out, {len(capture.packets) - len(ours)} in")
    site = two.site("north")
    words = [b"north", b"/v1/fleet", str(site).encode(), (site / "keys" / "node.pub").read_bytes().split()[1]]
    everything = b"".join(packet.payload for packet in capture.packets)
    assert [word for word in words if word in everything] == []


def _moved(site, folder):
    """The hospital's data in a folder with a telling name. Returns it."""
    path = site / "site.yaml"
    settings = yaml.safe_load(path.read_text())
    shutil.copytree(settings["source"]["path"], folder)
    settings["source"]["path"] = str(folder)
    path.write_text(yaml.safe_dump(settings))
    return folder


def _names(folder, labels):
    """Everything that would name a patient: series, patients, folders; and the form of an error."""
    series = {line.partition(",")[0] for line in labels.splitlines()[1:]}
    patients = {path.name for path in folder.iterdir() if path.is_dir()}
    assert len(series) > 3
    assert len(patients) > 3
    words = {*series, *patients, "planted-folder", "PLANTED", "1.2.826.0.1.3680043.99", "Traceback"}
    return sorted(word.encode() for word in words)
