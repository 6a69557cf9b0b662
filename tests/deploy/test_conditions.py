"""Disks that are full, and clocks that are wrong: who says what, and what the others do meanwhile."""

import os
import subprocess
from contextlib import contextmanager

import pytest

from app.deploy.coordinator import open_coordinator
from tests.deploy.conftest import ONLINE_SECONDS, amend, founded
from tests.deploy.processes import TINY, journalled, rounds, wait_for_round

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

SHIFTED = """\
import datetime, time
real = time.time
time.time = lambda: real() + {seconds}
class Kind(type):
    def __instancecheck__(cls, one): return isinstance(one, Real)
Real = datetime.datetime
class Shifted(Real, metaclass=Kind):
    @classmethod
    def now(cls, tz=None): return Real.now(tz) + datetime.timedelta(seconds={seconds})
datetime.datetime = Shifted
"""
"""A sitecustomize.py: in processes that have it on their path, Python's clocks are off."""


@contextmanager
def small_disk(folder, megabytes):
    """A disk of its own for a folder, so small that a test can fill it. Yields what fills it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root to mount a small disk")
    try:
        yield folder / "filler"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


PAGE = 4096


def fill(path, log):
    """Until no byte fits, neither into a new file nor into the last page of a log that ignores empty lines."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            os.fsync(file.fileno())
    with log.open("ab") as file:
        file.write(b"\n" * (-log.stat().st_size % PAGE))


def test_a_hospital_with_a_full_disk_says_so_and_is_back_when_there_is_room(tmp_path, cohort, bundle):
    with founded(tmp_path) as federation, small_disk(federation.site("north"), 64) as filler:
        for name in ("north", "south"):
            federation.enrol(name, cohort, bundle)
        _, sites = federation.up("north", "south")
        run_dir = tmp_path / "run"
        run = federation.run(run_dir, *TINY, "quorum=1", "rounds=30")
        wait_for_round(run_dir, 1)
        fill(filler, federation.site("north") / "audit.jsonl")
        line = journalled(run_dir, lambda line: "north" not in line["reports"], 90)
        assert {(one["hospital"], one["code"]) for one in line["refused"]} == {("north", "disk")}
        assert "south" in line["reports"]
        run.wait_for("hospital north is not in round .*: disk", 10)
        sites["north"].wait_for("REFUSED with code disk", 10)
        filler.unlink()
        journalled(run_dir, lambda later: later["round"] > line["round"] and "north" in later["reports"], 90)
        run.interrupt()
        assert "Traceback" not in sites["north"].said()


def test_a_coordinator_with_a_full_disk_ends_the_run_and_says_how_to_go_on(tmp_path, cohort, bundle):
    with small_disk(tmp_path / "coordinator", 64) as filler, founded(tmp_path) as federation:
        for name in ("north", "south"):
            federation.enrol(name, cohort, bundle)
        coordinator, _ = federation.up("north", "south")
        run_dir = federation.coordinator.runs / "run"
        run = federation.run(run_dir, *TINY, "rounds=4")
        wait_for_round(run_dir, 1)
        fill(filler, federation.home / "audit.jsonl")
        assert run.ended(120) == 1
        assert "no room to write" in run.said() or "No space left" in run.said()
        assert "Traceback" not in run.said()
        coordinator.wait_for("cannot write: .*No space left", 30)
        filler.unlink()
        resumed = federation.run(run_dir, resume=True)
        assert resumed.ended(240) == 0, resumed.said()
        assert [line["round"] for line in rounds(run_dir)] == [1, 2, 3, 4]
        assert coordinator.popen.poll() is None


def test_a_coordinator_without_room_for_flowers_state_says_so_and_the_run_is_resumed(tmp_path, cohort, bundle):
    with founded(tmp_path) as federation, small_disk(tmp_path / "memory", 256) as filler:
        amend(federation.home / "coordinator.yaml", state_dir=str(filler.parent / "state"))
        federation.coordinator = open_coordinator(federation.home)
        for name in ("north", "south"):
            federation.enrol(name, cohort, bundle)
        coordinator, sites = federation.up("north", "south")
        run_dir = tmp_path / "run"
        run = federation.run(run_dir, *TINY, "rounds=6")
        wait_for_round(run_dir, 1)
        fill(filler, filler.parent / "nothing")
        coordinator.wait_for("0 MB are left in .*: free some, then resume the run", 30)
        assert run.ended(200) == 1
        assert "the run failed" in run.said() or "Go on with: fedvox run --resume" in run.said()
        assert "Traceback" not in run.said()
        for site in sites.values():
            site.wait_for("the coordinator failed at what this hospital asked of it", 60)
        coordinator.wait_for("SuperExec ended and was started again", 120)
        filler.unlink()
        coordinator.wait_for("that is enough", 30)
        for name, site in sites.items():
            federation.wait_until_online(name)
            assert site.popen.poll() is None
        resumed = federation.run(run_dir, resume=True)
        assert resumed.ended(240) == 0, resumed.said()
        assert [line["round"] for line in rounds(run_dir)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("seconds", "where"), [(8, "ahead of"), (-310, "behind")])
def test_a_wrong_clock_is_measured_by_the_check_and_named_by_the_connection(two, tmp_path, seconds, where):
    two.start_coordinator()
    (tmp_path / "sitecustomize.py").write_text(SHIFTED.format(seconds=seconds))
    check = two.site_verb("check", "north", path=tmp_path)
    assert check.ended(60) == 1
    [line] = [line for line in check.said().splitlines() if " clock " in line]
    assert line.startswith("REFUSED clock")
    assert where in line
    assert "by NTP" in line
    site = two.start_site("north", path=tmp_path)
    site.wait_for("this machine's clock is more than 5 s ahead or 5 min behind", ONLINE_SECONDS)
    assert site.interrupt() == 0
