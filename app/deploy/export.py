"""The bundle: the very bytes that a run sends to hospitals, for them to look at and approve before."""

import hashlib
from pathlib import Path

from app import own_files
from app.config import CONF
from app.deploy.errors import DeployError
from app.files import replacing


def bundle() -> bytes:
    """What `flwr run` would send now; equal code and configuration give equal bytes.

    Raises:
        DeployError: this installation is no Flower app (a wheel has no pyproject.toml).
    """
    from flwr.cli.build import build_fab_from_disk

    try:
        with own_files.copied() as app:
            return build_fab_from_disk(app)
    except ValueError as error:
        raise DeployError(f"no bundle can be made of {CONF.parent}: {error}; run from a checkout of fedvox") from error


def digest(content: bytes) -> str:
    """SHA-256 of the bytes: what hospitals approve and what the audit logs name."""
    return hashlib.sha256(content).hexdigest()


def write_bundle(path: Path) -> str:
    """Write the bundle into a file. Returns its hash."""
    content = bundle()
    with replacing(path) as file:
        file.write(content)
    return digest(content)
