import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from app.deploy import children, resident
from app.deploy.node import ASKING_S, LOST, QUICK_ASKING_S, WAITING_S, Pauses
from app.deploy.resident import hold, in_child
from app.site.place import Opening

# From 3.12 on Python warns where a process with threads, as pytest's workers are, has a child do something first.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

OPENING = Opening("run", "rounds=1", "north", -1, 0, "site.yaml")


def test_a_process_that_will_not_end_is_ended(tmp_path):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    process = children.start([sys.executable, "-c", stubborn], env=children.environment(tmp_path), cwd=tmp_path)
    with process.stdout, process.stderr:
        assert process.stdout.readline() == "up\n"
        children.stop(process, 0.2)
    assert process.returncode == -signal.SIGKILL


def test_an_accounts_own_environment_does_not_reach_the_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    env = children.environment(tmp_path, FLWR_HOME="y")
    assert "AWS_SECRET_ACCESS_KEY" not in env
    assert (env["HOME"], env["FLWR_HOME"], env["OMP_NUM_THREADS"]) == (str(tmp_path), "y", "1")
    assert env["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)  # noqa: PTH120 — as PATH has it


def test_a_process_dies_with_the_one_that_started_it(tmp_path):
    # The middle one is killed: the inner one, which asked the kernel, ends, and so the pipe that both hold is closed.
    inner = (
        "import signal, time; from app.deploy.children import die_with_parent; die_with_parent(signal.SIGKILL);"
        "print('up', flush=True); time.sleep(60)"
    )
    middle = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    process = children.start([sys.executable, "-c", middle], env={**os.environ}, cwd=os.getcwd())  # noqa: PTH109
    with process.stdout, process.stderr:
        assert process.stdout.readline() == "up\n"
        process.kill()
        assert process.stdout.read() == ""
    process.wait()


def test_a_process_that_does_not_know_of_it_yet_dies_with_the_one_that_started_it(tmp_path):
    # As a SuperNode that still imports when `site start` is killed.
    started = (
        f"children.start([{sys.executable!r}, '-c', 'import time; time.sleep(60)'], env=dict(os.environ), cwd='.')"
    )
    parent = f"import os, time; from app.deploy import children; print({started}.pid, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone == [child]


def test_a_process_whose_parent_was_gone_before_it_began_does_nothing():
    somebody_else = os.getppid()
    done = subprocess.run(["echo", "begun"], preexec_fn=children.tied(somebody_else), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (children.ORPHAN, b"")


@pytest.fixture
def quiet(monkeypatch):
    said = []
    monkeypatch.setattr(resident, "say", said.append)
    return said


# A fork takes none of the threads along; children here touch nothing that they hold.
class TestInAProcessOfItsOwn:
    def test_what_a_child_opened_is_told_to_the_parent(self, quiet):
        assert in_child(lambda: OPENING) == OPENING
        assert in_child(lambda: None) is None
        assert quiet == []

    def test_a_child_that_is_killed_takes_nobody_along(self, quiet):
        assert in_child(lambda: os.kill(os.getpid(), signal.SIGKILL)) is None
        assert "for want of memory" in quiet[0]

    def test_a_child_that_fails_leaves_its_words_in_the_log(self, quiet, capfd):
        assert in_child(lambda: 1 / 0) is None
        assert "ended with 1" in quiet[0]

    def test_a_child_past_its_deadline_ends(self, quiet):
        def late():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            threading.Event().wait(30)

        assert in_child(late) is None
        assert "deadline" in quiet[0]


def test_what_a_run_opened_is_closed_when_another_begins(monkeypatch):
    done = []
    monkeypatch.setattr(resident.place, "forget", lambda: done.append("closed"))
    monkeypatch.setattr(Opening, "hold", lambda self: done.append(self.run))
    held = hold(None, OPENING)
    assert hold(held, OPENING) is held
    other = Opening("other", "rounds=1", "north", -1, 0, "site.yaml")
    assert hold(held, other) == other
    assert done == ["closed", "run", "closed", "other"]


def test_what_cannot_be_held_open_is_opened_by_each_message(monkeypatch):
    assert hold(None, Opening("run", "rounds=ten", "north", -1, 0, "nowhere.yaml")) is None


def test_the_supernode_asks_quickly_while_a_run_is_under_way_and_at_its_own_pace_otherwise(monkeypatch):
    slept = []
    monkeypatch.setattr("app.deploy.node.time.sleep", slept.append)
    pauses = Pauses()
    pauses.sleep(ASKING_S)
    pauses.sleep(0.5)
    pauses.sleep(ASKING_S)
    assert slept == [ASKING_S, WAITING_S, QUICK_ASKING_S]


@pytest.mark.parametrize(
    "supernode",
    [
        # As flwr does after an error of TLS: the function returns, a thread that is no daemon goes on.
        "staying.start",
        # As flwr does after a heartbeat that met an unforeseen error: only the thread ends.
        "lambda: (threading.Thread(target=int, args=['no number']).start(), staying.run())",
    ],
    ids=["gave up", "lost a thread"],
)
def test_a_supernode_that_is_of_no_more_use_ends_although_it_would_stay(tmp_path, supernode):
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "kit.yaml").write_text("hospital: north\naddress: localhost:1\n")
    giving_up = (
        "import sys, threading, flwr.supernode.cli; from app.deploy import node;"
        "staying = threading.Thread(target=threading.Event().wait);"
        f"sys.modules['flwr.supernode.cli.flower_supernode'].flower_supernode = {supernode};"
        f"sys.argv = ['node', {str(tmp_path)!r}]; node.main()"
    )
    process = children.start([sys.executable, "-c", giving_up], env={**os.environ}, cwd=os.getcwd())  # noqa: PTH109
    with process.stdout, process.stderr:
        assert process.wait(timeout=60) == LOST, process.stderr.read()
