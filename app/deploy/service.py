"""Files by which an operating system runs either side for good: a systemd unit, or an image and its compose file.

Both let the process do what it needs and no more: no root, no new privileges, a read-only system, the folders to write
into that its files name. A hospital opens no port.
"""

import pwd
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from app.deploy.errors import DeployError
from app.files import write_text

RESTART_SECONDS = 15
"""Flower locks out a SuperNode for up to 60 s after a crash; trying more often would only fill the log."""

UNIT = """\
[Unit]
Description=fedvox {role} ({folder})
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=simple
User={user}
ExecStart={fedvox} {role} start {quoted}
Restart=always
RestartSec={restart}
KillMode=mixed
TimeoutStopSec=60
UMask=0077
Environment={home}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writes}
{reads}PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""

DOCKERFILE = """\
# One image for both sides. Build it from a checkout of fedvox: docker build -f {dockerfile} -t fedvox .
FROM python:3.11-slim
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends nginx-light \\
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/fedvox
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir -r requirements.lock
COPY app ./app
COPY data ./data
COPY models ./models
COPY strategies ./strategies
COPY conf ./conf
# Editable, since a coordinator makes its bundle of these files.
RUN pip install --no-cache-dir --no-deps --editable .
RUN useradd --uid 10001 --create-home fedvox
USER 10001
ENTRYPOINT ["fedvox"]
"""


ACCOUNT, IMAGE_ID = "fedvox", 10001
"""Who runs a service whose folder is root's: to be made with useradd, and in the image already."""

GPU = {
    "deploy": {"resources": {"reservations": {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}}}
}
"""What compose.gpu.yaml adds to a hospital, as the Compose specification writes it."""


@dataclass(frozen=True)
class Role:
    """One side of a deployment, as its operating system sees it."""

    name: str
    """`coordinator` or `site`: the verb that starts it."""
    folder: Path
    reads: Sequence[Path] = ()
    """What it may read and not change: a hospital's data."""
    writes: Sequence[Path] = ()
    """Folders outside of its own into which it writes; made where they are not there."""
    port: int | None = None
    """The port that it opens; a hospital opens none."""
    user: str | None = None
    """The account that runs it, by name or number; None: whose the folder is, or `fedvox` where that is root."""


@dataclass(frozen=True)
class Account:
    """Who runs a service."""

    name: str
    uid: int
    gid: int


def account(role: Role) -> Account:
    """Who runs it. Raises DeployError for root."""
    owner = role.folder.stat().st_uid
    found = _account(role.user or (_name(owner) if owner else ACCOUNT))
    if found.uid == 0:
        raise DeployError("nothing of fedvox runs as root; give --user with another account")
    return found


def written(role: Role, *, systemd: bool, container: bool) -> list[str]:
    """Write what is wanted. Returns a line for each file, and what is to be done before the start."""
    paths = [*([write_systemd(role)] if systemd else []), *(write_container(role) if container else [])]
    return [*(f"written: {path}" for path in paths), *(handing_over(role, by_name=systemd) if paths else ())]


def write_systemd(role: Role) -> Path:
    """Write DIR/systemd/fedvox-ROLE.service, to be copied to /etc/systemd/system. Returns its path."""
    path = role.folder / "systemd" / f"fedvox-{role.name}.service"
    path.parent.mkdir(exist_ok=True)
    _make(role.writes)
    # With -, since a disk of scans that is not mounted is for the hospital's own check to find.
    reads = " ".join(_quoted(f"-{path}") for path in role.reads)
    text = UNIT.format(
        role=role.name,
        folder=role.folder,
        quoted=_quoted(role.folder),
        home=_quoted(f"FEDVOX_HOME={role.folder}/home"),
        writes=" ".join(map(_quoted, [role.folder, *_outside(role)])),
        reads=f"ReadOnlyPaths={reads}\n" if reads else "",
        user=account(role).name,
        fedvox=_quoted(Path(sys.executable).parent / "fedvox"),
        restart=RESTART_SECONDS,
    )
    write_text(path, text)
    return path


def write_container(role: Role) -> list[Path]:
    """Write DIR/container/Dockerfile and compose.yaml, and for a hospital compose.gpu.yaml. Returns their paths.

    Folders keep their paths inside, since both sides remember absolute ones.
    """
    folder = role.folder / "container"
    folder.mkdir(exist_ok=True)
    _make(role.writes)
    files = {
        "Dockerfile": DOCKERFILE.format(dockerfile=folder / "Dockerfile"),
        "compose.yaml": yaml.safe_dump(_compose(role), sort_keys=False),
        **({"compose.gpu.yaml": yaml.safe_dump({"services": {role.name: GPU}})} if role.name == "site" else {}),
    }
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def handing_over(role: Role, *, by_name: bool) -> Iterator[str]:
    """What has to be done before the account can write where it must; a container knows numbers alone."""
    who = account(role)
    if role.folder.stat().st_uid != who.uid:
        owner = f"{who.name}:" if by_name else f"{who.uid}:{who.gid}"
        yield f"before the start: {shlex.join(['sudo', 'chown', '-R', owner, str(role.folder)])}"
    if strange := [str(path) for path in _outside(role) if path.stat().st_uid != who.uid]:
        yield f"before the start: let {who.name} (uid {who.uid}) write into {', '.join(strange)}"


def _compose(role: Role) -> dict[str, object]:
    who = account(role)
    written = [f"{path}:{path}" for path in [role.folder, *_outside(role)]]
    service = {
        "image": "fedvox",
        "command": [role.name, "start", str(role.folder)],
        "user": f"{who.uid}:{who.gid}",
        "restart": "always",
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": ["/tmp"],  # noqa: S108 — a container's own
        "shm_size": "4gb",
        "stop_grace_period": "60s",
        "environment": {"FEDVOX_HOME": f"{role.folder}/home"},
        "volumes": [*written, *(f"{path}:{path}:ro" for path in role.reads)],
        **({"ports": [f"{role.port}:{role.port}"]} if role.port else {}),
    }
    return {"name": f"fedvox-{role.name}", "services": {role.name: service}}


def _outside(role: Role) -> list[Path]:
    """What it writes into beside its own folder, each once."""
    outer = [path for path in role.writes if not path.is_relative_to(role.folder)]
    return [path for path in dict.fromkeys(outer) if not any(path != up and path.is_relative_to(up) for up in outer)]


def _make(folders: Sequence[Path]) -> None:
    """A path that is not there keeps a unit from starting."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _account(who: str) -> Account:
    try:
        entry = pwd.getpwuid(int(who)) if who.isdigit() else pwd.getpwnam(who)
    except KeyError:
        number = int(who) if who.isdigit() else IMAGE_ID
        return Account(who, number, number)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _name(uid: int) -> str:
    return _account(str(uid)).name


def _quoted(text: object) -> str:
    """As systemd reads it: words end at spaces, and % begins a specifier."""
    plain = str(text).replace("%", "%%")
    return '"' + plain.replace("\\", r"\\").replace('"', r"\"") + '"' if re.search(r"[\s\"'\\]", plain) else plain
