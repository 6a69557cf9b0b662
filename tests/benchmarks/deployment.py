"""What a round of a real deployment costs: three hospitals and a coordinator on loopback, TLS and keys on both sides.

Ours is `fedvox coordinator start`, three `fedvox site start` and `fedvox run --superlink`. The reference is plain
Flower started as its documentation says: `flower-superlink` with TLS and node authentication, three
`flower-supernode`, `flwr run` of an application after the quick start. Both train the same network for one batch or
two, so that the round is the deployment. Only with --full: each contender takes some minutes.
"""

import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.cli import main as fedvox
from app.deploy.certificates import Pair, make_authority, make_server
from app.deploy.keys import make_key
from app.processes import end, free_port, tree
from tests.benchmarks import cubes, plain
from tests.benchmarks.plain import noting_server
from tests.benchmarks.row import Row, Target, at_most, compared, skipped

HOSPITALS = ("north", "south", "west")
CUBES_EACH = 40
ROUNDS = 5
"""The first is not counted: processes and caches come up in it."""

LONGEST_S = 900.0
POLL_S = 0.1


@dataclass(frozen=True)
class Size:
    """A network, as both sides build it."""

    name: str
    depth: int
    widths: tuple[int, ...]
    target: Target


SIZES = (
    Size("tiny model", 10, (4, 8, 8, 16), at_most(0.7)),
    Size("14 M parameters", 10, (64, 128, 256, 512), at_most(0.8)),
    Size("33 M parameters", 18, (64, 128, 256, 512), at_most(0.8)),
)


def rows(full: bool) -> Iterator[Row]:
    """Seconds a round and memory, a model at a time."""
    for size in SIZES:
        name = f"deployment, {size.name}"
        if not full or shutil.which("nginx") is None:
            yield skipped(name, size.target, "only with --full, and where nginx is installed")
            continue
        with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as temporary:
            ours = _measured(Ours(Path(temporary) / "ours", size))
            reference = _measured(Plain(Path(temporary) / "plain", size))
        yield compared(
            f"{name}, seconds a round",
            ours=statistics.median(ours.rounds),
            reference=statistics.median(reference.rounds),
            unit="s",
            target=size.target,
            note=f"rounds after the first, ours {_listed(ours.rounds)}, plain Flower {_listed(reference.rounds)} s; "
            f"largest process of a kind, ours {_largest(ours)}; plain Flower {_largest(reference)}",
        )
    if full and shutil.which("nginx"):
        with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as temporary:
            yield _resumed(Ours(Path(temporary) / "ours", SIZES[0]))


@dataclass
class Measured:
    """Seconds of rounds after the first, and the largest resident size of each kind of process."""

    rounds: list[float] = field(default_factory=list)
    peaks_mb: dict[str, float] = field(default_factory=dict)


@dataclass
class Contender:
    """A deployment in a folder."""

    folder: Path
    size: Size
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: Sequence[str], log: str, env: Mapping[str, str] | None = None) -> Path:
        """A process of its own. Returns its log."""
        path = self.folder / log
        with path.open("wb") as output:
            started = subprocess.Popen(
                list(command), cwd=self.folder, env={**os.environ, **(env or {})}, stdout=output, stderr=output
            )
        self.running.append(started)
        return path

    def ends(self) -> list[float]:
        """When each round ended, so far."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Start everything but the run."""
        raise NotImplementedError

    def run(self) -> None:
        """Start the run."""
        raise NotImplementedError


class Ours(Contender):
    """As docs/deployment.md says."""

    def prepare(self) -> None:
        home, bundle = str(self.folder / "coordinator"), str(self.folder / "run.fab")
        ports = ["--host", f"localhost:{free_port()}", "--superlink-port", str(free_port())]
        _do("coordinator", "init", home, *ports)
        _do("coordinator", "bundle", bundle)
        self.start_coordinator()
        for name in HOSPITALS:
            site = str(self.folder / name)
            _do("site", "init", site, "--name", name, "--data", str(_noise(self.folder, name)), "--kind", "cubes")
            _do("coordinator", "enrol", name, f"{site}/keys/node.pub", "--dir", home)
            _do("site", "init", site, "--kit", f"{home}/kits/{name}")
            _do("site", "approve", site, bundle, "--yes")
            self.start_hospital(name)

    def start_coordinator(self) -> Path:
        """Until its door is open. Returns its log."""
        log = self._fedvox("coordinator", "start", str(self.folder / "coordinator"))
        self.coordinator = self.running[-1]
        _until(lambda: "is up" in log.read_text())
        return log

    def start_hospital(self, name: str) -> None:
        """Until it can answer."""
        said = self._fedvox("site", "start", str(self.folder / name))
        self.hospital = self.running[-1]
        _until(lambda: "ready" in said.read_text() and "connected" in said.read_text())

    def resume(self) -> None:
        """Go on with the run."""
        self._fedvox("run", "--resume", str(self.folder / "run"), "--superlink", str(self.folder / "coordinator"))

    def run(self) -> None:
        widths = ",".join(map(str, self.size.widths))
        network = ["model=resnet10", f"model.depth={self.size.depth}", f"model.widths=[{widths}]"]
        rest = ["preprocess=cube32", "augment=flips", "comparison=off", f"rounds={ROUNDS}", "training.batch_size=32"]
        where = ["--superlink", str(self.folder / "coordinator"), "--run-dir", str(self.folder / "run")]
        self._fedvox("run", *network, *rest, *where)
        self._seen: list[float] = []

    def ends(self) -> list[float]:
        journal = self.folder / "run" / "rounds.jsonl"
        lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
        self._seen += [time.time()] * (lines - len(self._seen))
        return self._seen

    def _fedvox(self, *args: str) -> Path:
        return self.start([sys.executable, "-m", "app", *args], f"log{len(self.running)}")


class Plain(Contender):
    """As Flower's documentation on TLS and SuperNode authentication says."""

    def prepare(self) -> None:
        port = free_port()
        authority, server = (
            Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key") for name in ("ca", "server")
        )
        make_authority(authority, "localhost")
        make_server(authority, server, ["localhost", "127.0.0.1"])
        self._env = {"FLWR_HOME": str(self.folder / "home"), "FLWR_TELEMETRY_ENABLED": "0", "PATH": _path()}
        (self.folder / "home").mkdir()
        told = f'address = "127.0.0.1:{port}"\nroot-certificates = "{authority.certificate}"\n'
        (self.folder / "home" / "config.toml").write_text(f'[superlink]\ndefault = "there"\n[superlink.there]\n{told}')
        tls = ["--ssl-ca-certfile", str(authority.certificate), "--ssl-certfile", str(server.certificate)]
        self.start(
            ["flower-superlink", "--host", "127.0.0.1", "--port", str(port), *tls, "--ssl-keyfile", str(server.key),
             "--enable-supernode-auth", "--database", str(self.folder / "state.db"),
             "--disable-runtime-dependency-installation"], "superlink", self._env,
        )  # fmt: skip
        _until(lambda: _listens(port))
        for number, name in enumerate(HOSPITALS):
            make_key(self.folder / name, self.folder / f"{name}.pub", name)
            self._flwr("supernode", "register", f"{name}.pub", "there", "--name", name)
            home = {**self._env, "FLWR_HOME": str(self.folder / f"home-{name}")}
            log = self.start(
                ["flower-supernode", "--root-certificates", str(authority.certificate),
                 "--superlink", f"127.0.0.1:{port}", "--host", "127.0.0.1", "--port", str(free_port()),
                 "--auth-supernode-private-key", name, "--node-config", f"partition-id={number}"], f"log-{name}", home,
            )  # fmt: skip
            _until(lambda log=log: "SuperNode ID" in log.read_text())  # type: ignore[misc]

    def run(self) -> None:
        noise = cubes.write_noise(self.folder / "cubes.npz", dict.fromkeys(HOSPITALS, CUBES_EACH))
        split = {
            name: {"train": [*range(start, start + 24)], "validation": [*range(start + 24, start + 30)]}
            for start, name in zip(itertools.count(0, CUBES_EACH), HOSPITALS, strict=False)
        }
        (self.folder / "split.json").write_text(json.dumps(split))
        settings = {"cubes": noise, "split": self.folder / "split.json", "outcome": self.folder / "outcome"}
        run_config = " ".join(f'{key}="{value}"' for key, value in settings.items()) + f" rounds={ROUNDS}"
        self._flwr("run", str(self._app()), "there", "--run-config", run_config)

    def ends(self) -> list[float]:
        noted = self.folder / "outcome"
        lines = noted.read_text().splitlines() if noted.exists() else []
        return [float(line.split()[1]) for line in lines if not line.startswith("0 ")]

    def _app(self) -> Path:
        app, package = self.folder / "plain-flower", Path(plain.__file__).parent
        shutil.copytree(
            package, app / "plain", ignore=shutil.ignore_patterns("__pycache__", "loop.py", "noting_server.py")
        )
        shutil.move(app / "plain" / "flower_app.toml", app / "pyproject.toml")
        shutil.copy(noting_server.__file__, app / "plain" / "server_app.py")
        task = app / "plain" / "task.py"
        theirs, wanted = "depth=10, widths=(16, 32, 64, 128)", f"depth={self.size.depth}, widths={self.size.widths}"
        if theirs not in task.read_text():
            raise RuntimeError(f"{task.name} does not build the network that this row replaces")
        task.write_text(task.read_text().replace(theirs, wanted))
        return app

    def _flwr(self, *args: str) -> None:
        done = subprocess.run(
            ["flwr", *args],
            cwd=self.folder,
            env={**os.environ, **self._env},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"flwr {args[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")


def _measured(contender: Contender) -> Measured:
    """Run a contender to its end."""
    contender.folder.mkdir()
    found, until = Measured(), time.monotonic() + LONGEST_S
    try:
        contender.prepare()
        contender.run()
        while len(contender.ends()) < ROUNDS:
            _sample(contender, found)
            if time.monotonic() > until:
                raise RuntimeError(f"{type(contender).__name__} did not end within {LONGEST_S:.0f} s")
            time.sleep(POLL_S)
    finally:
        _ended(contender)
    found.rounds = [after - before for before, after in itertools.pairwise(contender.ends())]
    return found


def _resumed(ours: Ours) -> Row:
    """What a kill -9 costs: of the coordinator in a run, and of a hospital, which awaits Flower's lock then."""
    ours.folder.mkdir()
    try:
        ours.prepare()
        ours.run()
        run = ours.running[-1]
        _until(lambda: bool(ours.ends()))
        ours.coordinator.kill()
        run.wait(LONGEST_S)
        began, done = time.monotonic(), len(ours.ends())
        log = ours.start_coordinator()
        _until(lambda: all(f"{name} is online" in log.read_text() for name in HOSPITALS))
        online = time.monotonic() - began
        ours.resume()
        _until(lambda: len(ours.ends()) > done)
        resumed = time.monotonic() - began
        ours.hospital.kill()
        ours.hospital.wait()
        began = time.monotonic()
        ours.start_hospital(HOSPITALS[-1])
        back = time.monotonic() - began
    finally:
        _ended(ours)
    note = f"hospitals online after {online:.1f} s; a hospital that was killed itself is connected after {back:.1f} s"
    return Row("deployment, a killed coordinator to its next round", resumed, None, None, "s", "", None, note)


def _ended(contender: Contender) -> None:
    """Nothing of it is left."""
    end([process for started in contender.running for process in tree(started.pid)], 10.0)
    for started in contender.running:
        started.wait()


def _sample(contender: Contender, found: Measured) -> None:
    for started in contender.running:
        for process in tree(started.pid):
            with contextlib.suppress(psutil.Error):
                kind = _kind(process.cmdline())
                found.peaks_mb[kind] = max(found.peaks_mb.get(kind, 0.0), process.memory_info().rss / 1e6)


def _kind(command: Sequence[str]) -> str:
    known = ("flower-superlink", "flower-superexec", "flwr-serverapp", "flwr-clientapp", "flower-supernode",
             "app.deploy.node", "app.deploy.resident", "nginx")  # fmt: skip
    words = " ".join(command)
    return next((name for name in known if name in words), "fedvox")


def _largest(measured: Measured) -> str:
    ranked = sorted(measured.peaks_mb.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in ranked)


def _noise(folder: Path, name: str) -> Path:
    return cubes.write_noise(folder / f"{name}.npz", {name: CUBES_EACH})


def _do(*args: str) -> None:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        code = fedvox(args)
    if code:
        raise RuntimeError(f"fedvox {' '.join(args[:2])} ended with {code}")


def _until(is_so: Callable[[], bool]) -> None:
    end_at = time.monotonic() + LONGEST_S
    while not is_so():
        if time.monotonic() > end_at:
            raise RuntimeError("a process of the deployment did not come up")
        time.sleep(POLL_S)


def _listens(port: int) -> bool:
    return any(c.laddr and c.laddr.port == port and c.status == "LISTEN" for c in psutil.net_connections("tcp"))


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
