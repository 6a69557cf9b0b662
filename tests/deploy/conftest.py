"""One coordinator and three hospitals with synthetic scans, each in processes and folders of its own.

Where root and `ip netns` are there, each hospital is in a network namespace with its own address; else on loopback.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli import main
from app.deploy.coordinator import Coordinator, open_coordinator
from app.deploy.status import status
from app.processes import free_port
from tests.deploy.networks import Network, Ward, network
from tests.deploy.processes import Process

HOSPITALS = {"north": "A", "south": "B", "west": "C"}
"""Names here, and in the cohort whose scans they hold."""

ONLINE_SECONDS = 120.0
"""A SuperNode comes up in 5 s on an idle core; a lost connection is freed after 60 s."""


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Three hospitals' scans: DICOM, DICOM and LUNA16, with their labels."""
    folder = tmp_path_factory.mktemp("cohort")
    assert main(["data", "synth", str(folder), "source.patients=40", "source.seed=3"]) == 0
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """What a run sends, as the coordinator gives it to hospitals."""
    path = tmp_path_factory.mktemp("bundle") / "run.fab"
    assert main(["coordinator", "bundle", str(path)]) == 0
    return path


def amend(path: Path, **facts: Any) -> None:
    """Change some values of a YAML file."""
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | facts))


@dataclass
class Federation:
    """Folders of all sides, made as the documentation says, and the processes that run now."""

    folder: Path
    coordinator: Coordinator
    running: list[Process]
    network: Network | None = None

    @property
    def home(self) -> Path:
        return self.coordinator.folder

    def site(self, name: str) -> Path:
        return self.folder / name

    def init(self, name: str, cohort: Path, bundle: Path) -> Path:
        """A hospital's folder with an approved bundle; the coordinator does not know it yet. Returns it."""
        site, facts = self.site(name), cohort / HOSPITALS.get(name, "A") / "site.yaml"
        mtls = ["--mtls"] if self.coordinator.mtls else []
        assert main(["site", "init", str(site), "--name", name, "--site", str(facts), *mtls]) == 0
        # The scans and their cache are every test's; what was spent and remembered is not.
        amend(site / "site.yaml", state_dir="state", ledger_key="keys/ledger.key")
        assert main(["site", "approve", str(site), str(bundle), "--yes"]) == 0
        return site

    def enrol(self, name: str, cohort: Path, bundle: Path) -> Path:
        """From nothing to a hospital that may start. Returns its folder."""
        site = self.init(name, cohort, bundle)
        key, asked = site / "keys" / "node.pub", site / "keys" / "client.csr"
        request = ["--request", str(asked)] if self.coordinator.mtls else []
        assert main(["coordinator", "enrol", name, str(key), *request, "--dir", str(self.home)]) == 0
        assert main(["site", "init", str(site), "--kit", str(self.coordinator.kits / name)]) == 0
        return site

    def ward(self, name: str) -> Ward:
        """A hospital's own namespace."""
        if self.network is None:
            pytest.skip("needs root and `ip netns`")
        return self.network.ward(name)

    def start(
        self, *args: str, name: str, cwd: Path | None = None, path: Path | None = None, inside: Sequence[str] = ()
    ) -> Process:
        """A `fedvox …`; `cwd` is where its code comes from, `path` is put before it."""
        log = self.folder / f"{name}-{len(self.running)}.log"
        env = {"FEDVOX_HOME": str(self.folder / "home"), **({"PYTHONPATH": str(path)} if path else {})}
        process = Process(list(args), log, env, cwd, inside)
        self.running.append(process)
        return process

    def start_coordinator(self) -> Process:
        process = self.start("coordinator", "start", str(self.home), name="coordinator")
        process.wait_for("is up", 90)
        return process

    def start_site(self, name: str, path: Path | None = None) -> Process:
        return self.site_verb("start", name, path)

    def site_verb(self, verb: str, name: str, path: Path | None = None) -> Process:
        """`fedvox site VERB`, where that hospital is."""
        inside = self.network.ward(name).inside if self.network else ()
        return self.start("site", verb, str(self.site(name)), name=name, path=path, inside=inside)

    def up(self, *names: str) -> tuple[Process, dict[str, Process]]:
        """The coordinator and these hospitals, online."""
        coordinator = self.start_coordinator()
        sites = {name: self.start_site(name) for name in names}
        for name in names:
            coordinator.wait_for(f"{name} is online", ONLINE_SECONDS)
        return coordinator, sites

    def wait_until_online(self, name: str) -> None:
        until = time.monotonic() + ONLINE_SECONDS
        while time.monotonic() < until:
            if status(self.coordinator)["hospitals"][name]["state"] == "online":
                return
            time.sleep(1.0)
        raise AssertionError(f"{name} did not come back within {ONLINE_SECONDS:.0f} s")

    def run(self, run_dir: Path, *overrides: str, resume: bool = False, cwd: Path | None = None) -> Process:
        where = ["--resume", str(run_dir)] if resume else ["--run-dir", str(run_dir)]
        return self.start("run", *overrides, *where, "--superlink", str(self.home), name="run", cwd=cwd)

    def clear(self) -> None:
        for process in reversed(self.running):
            process.clear()


@contextmanager
def founded(folder: Path, *more: str) -> Iterator[Federation]:
    """A coordinator's folder on free ports; whatever was started is ended."""
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx (apt-get install nginx)")
    home, own = folder / "coordinator", network()
    host = own.coordinator if own else "localhost"
    ports = ["--host", f"{host}:{free_port()}", "--superlink-port", str(free_port())]
    try:
        assert main(["coordinator", "init", str(home), *ports, *more]) == 0
        made = Federation(folder, open_coordinator(home), [], own)
        try:
            yield made
        finally:
            made.clear()
    finally:
        if own:
            own.close()


@pytest.fixture
def three(tmp_path, cohort, bundle):
    """All three hospitals enrolled; nothing runs yet."""
    with founded(tmp_path) as federation:
        for name in HOSPITALS:
            federation.enrol(name, cohort, bundle)
        yield federation


@pytest.fixture
def two(tmp_path, cohort, bundle):
    """`north` and `south` enrolled; nothing runs yet."""
    with founded(tmp_path) as federation:
        for name in ("north", "south"):
            federation.enrol(name, cohort, bundle)
        yield federation
