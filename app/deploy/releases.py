"""What each hospital has installed, in its own words: said in a header when it is let in, and kept by the proxy."""

import base64
import json
from importlib import metadata
from pathlib import Path

from app.deploy.coordinator import Coordinator
from app.deploy.foreign import shown
from app.fingerprint import code_hash

HEADER = "fedvox-release"
"""Of a hospital's first request; Flower's signature beside it says whose it is."""


def release() -> str:
    """Version and code hash of what is installed here."""
    return f"{metadata.version('fedvox')} {code_hash()}"


def told(coordinator: Coordinator) -> dict[bytes, str]:
    """The release that each key named last, since this coordinator started; only of keys that were let in."""
    return dict(pair for line in _lines(log_file(coordinator)) if (pair := _read(line)))


def log_file(coordinator: Coordinator) -> Path:
    """Where the proxy writes."""
    return coordinator.state_dir / "releases.jsonl"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _read(line: str) -> tuple[bytes, str] | None:
    try:
        facts = json.loads(line)
        return base64.b64decode(facts["key"], validate=True), shown(facts["release"])
    except (ValueError, KeyError, TypeError):
        return None
