import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from app import processes

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "from app.processes import end_with_parent; import time; "
                          "end_with_parent(); print('up', flush=True); time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def sleeper():
    started = subprocess.Popen(["sleep", "60"], env={**os.environ, "FEDVOX_TEST_MARK": "yes"})
    yield started
    started.kill()
    started.wait()


def test_a_process_that_watches_its_parent_does_not_outlive_it():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == "up\n"
    parent.kill()
    parent.communicate()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone == [child]


def test_a_child_that_dies_with_its_parent_gets_sigterm_when_the_parent_is_killed():
    code = (
        "import subprocess, time; from app.processes import dying_with_parent; "
        "p = subprocess.Popen(['sleep', '60'], preexec_fn=dying_with_parent()); "
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert psutil.wait_procs([child], timeout=5)[0] == [child]


def test_processes_are_found_by_the_mark_in_their_environment(sleeper):
    assert [process.pid for process in processes.marked({"FEDVOX_TEST_MARK": "yes"})] == [sleeper.pid]
    assert list(processes.marked({"FEDVOX_TEST_MARK": "no"})) == []


def test_what_does_not_end_when_asked_is_killed():
    deaf = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], stdout=subprocess.PIPE
    )
    assert deaf.stdout.readline() == b"ready\n"
    began = time.monotonic()
    processes.stop(deaf, 0.3)
    assert not psutil.pid_exists(deaf.pid)
    assert 0.3 < time.monotonic() - began < 5
    deaf.stdout.close()


def test_a_port_answers_only_while_somebody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert processes.answers(port)
    assert not processes.answers(port)
