"""The coordinator's folder: who it is, whom it has enrolled, and where everything of the federation lies.

DIR/coordinator.yaml        host, ports, where Flower's state goes
DIR/ca/                     the authority; its key signs certificates and is the one secret to keep and to save
DIR/server/                 the certificate that hospitals see, and one for the way between proxy and SuperLink
DIR/hospitals/NAME.pub      the keys of enrolled hospitals; what lies here is what may connect
DIR/revoked/                the keys that may not come back
DIR/kits/NAME/              what a hospital gets; no secret inside
DIR/flower/                 FLWR_HOME of the SuperLink, with its name `hospitals`
DIR/runs/                   folders of the runs that were started here
DIR/logs/, DIR/audit.jsonl  what happened
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from app.deploy import audit_log, certificates
from app.deploy.certificates import Pair
from app.deploy.errors import DeployError
from app.files import write_text

PORT = 8443
SUPERLINK_PORT = 18443
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 — a folder of ours inside it, 0700
"""Flower's state holds raw updates while a run lasts; in memory they reach no disk and no backup."""

SUPERLINK = "hospitals"
"""The SuperLink's name in Flower's configuration."""


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's settings and places."""

    folder: Path
    host: str
    port: int
    listen: int
    superlink_port: int
    state_dir: Path
    mtls: bool = False
    authority: Pair = field(init=False)
    server: Pair = field(init=False)
    loopback: Pair = field(init=False)

    def __post_init__(self) -> None:
        pairs = {"authority": ("ca", "ca"), "server": ("server", "server"), "loopback": ("server", "loopback")}
        for name, (folder, stem) in pairs.items():
            place = self.folder / folder
            object.__setattr__(self, name, Pair(place / f"{stem}.crt", place / f"{stem}.key"))

    @property
    def address(self) -> str:
        """Where hospitals find it."""
        return f"{self.host}:{self.port}"

    @property
    def superlink(self) -> str:
        """Where Flower's SuperLink answers, on this machine alone."""
        return f"127.0.0.1:{self.superlink_port}"

    @property
    def database(self) -> Path:
        """Flower's state."""
        return self.state_dir / "state.db"

    @property
    def hospitals(self) -> Path:
        """Keys of the enrolled."""
        return self.folder / "hospitals"

    @property
    def revoked(self) -> Path:
        """Keys that may not come back."""
        return self.folder / "revoked"

    @property
    def kits(self) -> Path:
        """What hospitals get."""
        return self.folder / "kits"

    @property
    def flower_home(self) -> Path:
        """FLWR_HOME of the SuperLink and of the commands that speak to it."""
        return self.folder / "flower"

    @property
    def nodes(self) -> Path:
        """Flower's node of each hospital, as the running SuperLink registered them."""
        return self.flower_home / "nodes.json"

    @property
    def runs(self) -> Path:
        """Folders of runs that were given no place of their own."""
        return self.folder / "runs"

    @property
    def logs(self) -> Path:
        """Logs of the SuperLink, of the proxy and of runs."""
        return self.folder / "logs"

    def make_places(self) -> None:
        """Make the folders that are not there: a backup holds neither those of no worth nor empty ones."""
        for place in (self.hospitals, self.revoked, self.kits, self.flower_home, self.runs, self.logs):
            place.mkdir(exist_ok=True, mode=0o700)

    def record(self, event: str, **facts: Any) -> None:
        """Write into the coordinator's audit log."""
        audit_log.append(self.folder / "audit.jsonl", event, **facts)


def make_coordinator(
    folder: Path, host: str, *, listen: int | None = None, superlink_port: int = SUPERLINK_PORT, mtls: bool = False
) -> Coordinator:
    """Make a coordinator's folder: authority, server certificates, configuration; all of it the owner's alone.

    Args:
        folder: must not hold a coordinator yet.
        host: NAME or NAME:PORT, as hospitals will dial it.
        listen: the port on this machine, where it is another one (behind a firewall that translates).
        superlink_port: the port of Flower's SuperLink on loopback.
        mtls: whether the proxy asks hospitals for a client certificate, too.

    Raises:
        DeployError: the folder holds a coordinator, or the host cannot be read.
    """
    folder = folder.expanduser().absolute()
    if (folder / "coordinator.yaml").exists():
        raise DeployError(f"{folder} holds a coordinator already; enrol hospitals there, or choose another folder")
    name, port = _host_and_port(host)
    made = Coordinator(folder, name, port, listen or port, superlink_port, _state_dir(folder), mtls)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    made.make_places()
    certificates.make_authority(made.authority, name)
    _certify(made)
    write_flower_configuration(made)
    write_text(folder / "coordinator.yaml", yaml.safe_dump(_settings(made), sort_keys=False))
    made.record("coordinator-made", address=made.address, mtls=mtls)
    return made


def open_coordinator(folder: Path) -> Coordinator:
    """Read a coordinator's folder. Raises DeployError where it is none, or its file cannot be used."""
    folder = folder.expanduser().absolute()
    path = folder / "coordinator.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Coordinator(folder, **{**settings, "state_dir": Path(settings["state_dir"])})
    except OSError as error:
        raise DeployError(
            f"{folder} holds no coordinator ({error.strerror}); make one: fedvox coordinator init"
        ) from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise DeployError(f"{path} cannot be used: {' '.join(str(error).split())}") from error


def is_coordinator(name: str) -> bool:
    """Whether `--superlink NAME` means a coordinator's folder."""
    return (Path(name).expanduser() / "coordinator.yaml").is_file()


def write_flower_configuration(coordinator: Coordinator) -> None:
    """Flower's own configuration, so that `flwr` finds the SuperLink with FLWR_HOME set to DIR/flower."""
    lines = [
        "[superlink]",
        f'default = "{SUPERLINK}"',
        "",
        f"[superlink.{SUPERLINK}]",
        f'address = "{coordinator.superlink}"',
        f'root-certificates = "{coordinator.authority.certificate}"',
    ]
    write_text(coordinator.flower_home / "config.toml", "\n".join(lines) + "\n")


def rotate(coordinator: Coordinator) -> float:
    """Make new server certificates; a running coordinator takes them up at once and hospitals notice nothing.

    Returns:
        Days until the new one ends.
    """
    if (left := certificates.days_left(coordinator.authority.read())) < certificates.WARN_DAYS:
        raise DeployError(
            f"the authority itself ends in {left:.0f} days: make a new coordinator folder and enrol the hospitals there"
        )
    coordinator.record("certificates-rotated")
    _certify(coordinator)
    return certificates.days_left(coordinator.server.read())


def _certify(coordinator: Coordinator) -> None:
    inside, days = ["localhost", "127.0.0.1"], certificates.LOOPBACK_DAYS
    certificates.make_server(coordinator.authority, coordinator.loopback, inside, days=days)
    certificates.make_server(coordinator.authority, coordinator.server, [coordinator.host])


def _settings(coordinator: Coordinator) -> Mapping[str, Any]:
    names = ("host", "port", "listen", "superlink_port", "mtls")
    return {name: getattr(coordinator, name) for name in names} | {"state_dir": str(coordinator.state_dir)}


def _state_dir(folder: Path) -> Path:
    """In memory, one a coordinator and account; in the coordinator's folder where there is no such place."""
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    is_there = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    return SHARED_MEMORY / f"fedvox-{os.getuid()}-{key}" if is_there else folder / "state"


def _host_and_port(text: str) -> tuple[str, int]:
    name, _, port = text.partition(":")
    if not name or (port and not port.isdigit()) or not 0 < int(port or PORT) < 65536:
        raise DeployError(
            f"--host {text!r} is no NAME or NAME:PORT that hospitals can dial, like ct.example.org:{PORT}"
        )
    return name, int(port or PORT)
