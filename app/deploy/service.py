"""Files by which an operating system runs either side for good: a systemd unit, or an image and its compose file.

Both let the process do what it needs and no more: no root, no new privileges, a read-only system, one folder to write
into. A hospital opens no port.
"""

import getpass
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

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
ExecStart={fedvox} {role} start {folder}
Restart=always
RestartSec={restart}
KillMode=mixed
TimeoutStopSec=60
UMask=0077
Environment=FEDVOX_HOME={folder}/home
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}
PrivateTmp=yes
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


@dataclass(frozen=True)
class Role:
    """One side of a deployment, as its operating system sees it."""

    name: str
    """`coordinator` or `site`: the verb that starts it."""
    folder: Path
    reads: Sequence[Path] = ()
    """Folders that it may read: a hospital's data."""
    port: int | None = None
    """The port that it opens; a hospital opens none."""


def write_systemd(role: Role) -> Path:
    """Write DIR/systemd/fedvox-ROLE.service, to be copied to /etc/systemd/system. Returns its path."""
    path = role.folder / "systemd" / f"fedvox-{role.name}.service"
    path.parent.mkdir(exist_ok=True)
    text = UNIT.format(
        role=role.name,
        folder=role.folder,
        user=getpass.getuser() if os.getuid() else "fedvox",
        fedvox=Path(sys.executable).parent / "fedvox",
        restart=RESTART_SECONDS,
    )
    write_text(path, text)
    return path


def write_container(role: Role) -> list[Path]:
    """Write DIR/container/Dockerfile and compose.yaml. Returns their paths.

    Folders keep their paths inside, since both sides remember absolute ones.
    """
    folder = role.folder / "container"
    folder.mkdir(exist_ok=True)
    write_text(folder / "Dockerfile", DOCKERFILE.format(dockerfile=folder / "Dockerfile"))
    write_text(folder / "compose.yaml", yaml.safe_dump(_compose(role), sort_keys=False))
    return [folder / "Dockerfile", folder / "compose.yaml"]


def _compose(role: Role) -> dict[str, object]:
    owner = role.folder.stat()
    volumes = [f"{role.folder}:{role.folder}", *(f"{path}:{path}:ro" for path in role.reads)]
    service = {
        "image": "fedvox",
        "command": [role.name, "start", str(role.folder)],
        "user": f"{owner.st_uid or 10001}:{owner.st_gid or 10001}",
        "restart": "always",
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": ["/tmp"],  # noqa: S108 — a container's own
        "shm_size": "4gb",
        "stop_grace_period": "60s",
        "environment": {"FEDVOX_HOME": f"{role.folder}/home"},
        "volumes": volumes,
        **({"ports": [f"{role.port}:{role.port}"]} if role.port else {}),
    }
    return {"name": f"fedvox-{role.name}", "services": {role.name: service}}
