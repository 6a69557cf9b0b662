"""What runs here, as two hashes: the code and the shared configuration. They travel in every plan.

A hospital that would run other code, or compose another configuration, refuses the round. Paths, devices and
where the data lie are each hospital's own and stay outside; package versions are recorded, and only warn.
"""

import hashlib
import json
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from app.config import CONF, Config

PACKAGES = ("app", "data", "models", "strategies")
OWN_BUSINESS = ("device", "source", "deadline_s", "wait_s", "replicates", "optimise")
"""Settings that may differ between a hospital and the server, and before and after a resume."""

SERVER_BUSINESS = ("engine", "schedule", "weights")
"""Settings that no hospital reads: they may differ between it and the server, not before and after a resume."""

COORDINATORS_BUSINESS = ("deploy", "federation")
"""Settings by which a coordinator says who takes part and how they are reached. No hospital can know them before."""

LIBRARIES = ("flwr", "torch", "monai", "numpy", "opacus", "pydicom", "hydra-core", "dp-accounting")


@lru_cache(maxsize=1)
def code_hash() -> str:
    """SHA-256 over the names and contents of our Python files and conf/, 16 hex digits."""
    root = CONF.parent
    digest = hashlib.sha256()
    for path in sorted(code_files(root)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def config_hash(config: Config) -> str:
    """SHA-256 of the shared part of a resolved configuration, 16 hex digits."""
    return _hash(shared(config))


def approval_hashes(config: Config) -> tuple[str, ...]:
    """Under which hashes a hospital may have approved a configuration, whoever takes part; new approvals use the first.

    An approval with seed=null is of every seed. The last one is `config_hash`, as run folders and older approvals
    have it.
    """
    settings = {key: value for key, value in shared(config).items() if key not in COORDINATORS_BUSINESS}
    settings["mode"] = config["federation"]["mode"]
    return _hash(settings), _hash({**settings, "seed": None}), config_hash(config)


def shared(config: Config) -> Config:
    """What server and hospitals must agree on."""
    return {key: value for key, value in binding(config).items() if key not in SERVER_BUSINESS}


def binding(config: Config) -> Config:
    """What a resumed run must agree on with itself before."""
    kept = {key: value for key, value in config.items() if key not in OWN_BUSINESS}
    return kept | {"federation": _shared_federation(config["federation"])}


def fingerprint(config: Config) -> dict[str, Any]:
    """The content of a run folder's fingerprint.json."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return {"code": code_hash(), "config": config_hash(config), "packages": versions}


def code_files(root: Path) -> list[Path]:
    """Our Python files and settings: exactly what Flower puts into the bundle of the application in `root`."""
    found = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    return [*found, *CONF.rglob("*.yaml")]


def _hash(settings: Config) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _shared_federation(federation: Config) -> Config:
    hospitals = {
        name: {k: v for k, v in (facts or {}).items() if k not in ("site", "source")}
        for name, facts in federation["hospitals"].items()
    }
    return {"name": federation["name"], "mode": federation["mode"], "hospitals": hospitals}
