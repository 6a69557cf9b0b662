"""The coordinator at work: SuperLink, SuperExec and proxy in the foreground, registrations kept as the folder says.

Whatever ends this process ends all of them (also kill -9, after which the next start clears away what might be left),
and with them goes Flower's state, which holds hospitals' raw updates. Nothing is left.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.deploy import certificates, nginx
from app.deploy.control import control
from app.deploy.coordinator import Coordinator, write_flower_configuration
from app.deploy.enrolment import enrolled
from app.deploy.errors import DeployError
from app.deploy.executor import Executor
from app.deploy.parts import STOP_SECONDS, Parts
from app.deploy.watch import Say, Watch, register
from app.processes import answers, end, marked, tail, uninterrupted
from app.rounds.roster import NODES

MARK = "FEDVOX_COORDINATOR"
"""An environment variable of all that a coordinator starts: its folder."""

START_SECONDS = 90.0
LOOK_SECONDS = 1.0
"""Between looks at what may have changed."""

AT_ONCE = {"FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PUSHES": "8", "FLWR_PRIVATE_MAX_CONCURRENT_OBJ_PULLS": "8"}
"""A model is an object for every 5 MiB, each a request; Flower sends two at a time, which a long way makes slow."""


@dataclass(frozen=True)
class Started:
    """A running coordinator."""

    coordinator: Coordinator
    superlink: subprocess.Popen[bytes]
    executor: Executor
    proxy: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raise DeployError where SuperLink or proxy has ended."""
        for name, process in (("superlink", self.superlink), ("nginx", self.proxy)):
            if process.poll() is not None:
                raise DeployError(f"{name} ended: {tail(self.coordinator.logs / f'{name}.log')}")

    def revive(self) -> str:
        """Start the SuperExec again where it ended. Returns what is new of it."""
        return self.executor.revive()

    def reload(self) -> None:
        """Have the proxy read its certificate again; connections that stand go on."""
        nginx.reload(self.proxy.pid)


def serve(coordinator: Coordinator, say: Say) -> None:
    """Run until interrupted.

    Raises:
        DeployError: it runs already, something is not installed, or a part ended.
    """
    with _alone(coordinator), _running(coordinator, say) as started:
        say(f"coordinator {coordinator.address} is up; hospitals: {len(enrolled(coordinator))} enrolled")
        watch = Watch(started, say)
        while True:
            watch.look()
            time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def _alone(coordinator: Coordinator) -> Iterator[None]:
    coordinator.make_places()
    with (coordinator.flower_home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeployError(f"a coordinator of {coordinator.folder} runs already") from error
        yield


@contextlib.contextmanager
def _running(coordinator: Coordinator, say: Say) -> Iterator[Started]:
    end(list(marked({MARK: str(coordinator.folder)})), STOP_SECONDS)
    proxy_command = nginx.command(coordinator.state_dir / "nginx.conf")
    _check_ports(coordinator)
    _check_certificates(coordinator)
    _fresh_state(coordinator)
    nginx.write_configuration(coordinator)
    coordinator.record("coordinator-started", address=coordinator.address)
    parts = Parts(coordinator.state_dir / "empty", environment(coordinator), coordinator.logs)
    try:
        superlink = parts.start(_superlink_command(coordinator), "superlink")
        _wait("superlink", coordinator.superlink_port, superlink, coordinator)
        with control(coordinator) as flower:
            register(coordinator, flower)
        executor = Executor(lambda: parts.start(_superexec_command(coordinator, superlink.pid), "superlink"))
        proxy = parts.start(proxy_command, "nginx")
        _wait("nginx", coordinator.listen, proxy, coordinator)
        yield Started(coordinator, superlink, executor, proxy)
    finally:
        # A second Ctrl-C must not leave hospitals' updates behind.
        with uninterrupted():
            say("stopping: a few seconds, in which Ctrl-C does nothing")
            _clear(coordinator, parts)


def _clear(coordinator: Coordinator, parts: Parts) -> None:
    """End all that is left of a coordinator, and destroy what hospitals sent."""
    parts.stop()
    end(list(marked({MARK: str(coordinator.folder)})), STOP_SECONDS)
    shutil.rmtree(coordinator.state_dir, ignore_errors=True)
    coordinator.nodes.unlink(missing_ok=True)
    coordinator.record("coordinator-stopped")


def _fresh_state(coordinator: Coordinator) -> None:
    shutil.rmtree(coordinator.state_dir, ignore_errors=True)
    (coordinator.state_dir / "empty").mkdir(parents=True, mode=0o700)
    coordinator.state_dir.chmod(0o700)
    write_flower_configuration(coordinator)


def _check_ports(coordinator: Coordinator) -> None:
    for port in (coordinator.superlink_port, coordinator.listen):
        if answers(port):
            raise DeployError(
                f"port {port} is in use on this machine; stop what listens there, or change it in "
                f"{coordinator.folder / 'coordinator.yaml'}"
            )


def _check_certificates(coordinator: Coordinator) -> None:
    again = f"fedvox coordinator rotate {coordinator.folder}"
    for pair in (coordinator.authority, coordinator.server, coordinator.loopback):
        if not pair.certificate.exists():
            raise DeployError(f"{pair.certificate} is not there; restore ca/ from the backup, then: {again}")
        if (left := certificates.days_left(pair.read())) <= 0:
            raise DeployError(f"{pair.certificate} ended {-left:.0f} days ago; make a new one: {again}")


def _superlink_command(coordinator: Coordinator) -> list[str]:
    return [
        "flower-superlink",
        "--host=127.0.0.1",
        f"--port={coordinator.superlink_port}",
        f"--ssl-ca-certfile={coordinator.authority.certificate}",
        f"--ssl-certfile={coordinator.loopback.certificate}",
        f"--ssl-keyfile={coordinator.loopback.key}",
        "--enable-supernode-auth",
        f"--database={coordinator.database}",
        "--disable-runtime-dependency-installation",
        # It starts no SuperExec of its own.
        "--isolation=process",
    ]


def _superexec_command(coordinator: Coordinator, superlink: int) -> list[str]:
    return [
        "flower-superexec",
        f"--root-certificates={coordinator.authority.certificate}",
        f"--runtime-api-address={coordinator.superlink}",
        f"--parent-pid={superlink}",
    ]


def environment(coordinator: Coordinator) -> dict[str, str]:
    """What the SuperLink and all its processes get: this interpreter's commands first, a home of their own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {
        **os.environ,
        "PATH": path,
        "FLWR_HOME": str(coordinator.flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        # A task waits for the next look; a second of looking each time would be a second a round.
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        **AT_ONCE,
        MARK: str(coordinator.folder),
        NODES: str(coordinator.nodes),
    }


def _wait(name: str, port: int, process: subprocess.Popen[bytes], coordinator: Coordinator) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            time.sleep(LOOK_SECONDS)  # for its last words to reach the log
            raise DeployError(f"{name} ended at once: {tail(coordinator.logs / f'{name}.log')}")
        if answers(port):
            return
        time.sleep(0.1)
    raise DeployError(f"{name} did not answer on port {port} within {START_SECONDS:.0f} s; see {coordinator.logs}")
