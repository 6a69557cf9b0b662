"""A bundle as the bytes that arrive: their hash, the files inside, and the code they would be. Nothing is unpacked."""

import difflib
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.deploy.errors import DeployError
from app.fingerprint import PACKAGES

MOST_BYTES = 64 * 1024 * 1024
"""Of all files of a bundle, unpacked. Ours has about 1 MB; a larger one is not opened."""


@dataclass(frozen=True)
class Bundle:
    """A Flower App Bundle: one zip file."""

    sha256: str
    files: Mapping[str, bytes]

    @property
    def code(self) -> str:
        """What `app.fingerprint.code_hash` would be if this code were installed."""
        return code_of(self.files)


def digest(content: bytes) -> str:
    """What approvals go by: SHA-256 of the very bytes."""
    return hashlib.sha256(content).hexdigest()


def read_bundle(content: bytes) -> Bundle:
    """Look into a bundle. Raises DeployError where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise DeployError(f"the bundle would be more than {MOST_BYTES >> 20} MiB unpacked; it is not ours")
            return Bundle(digest(content), {entry.filename: archive.read(entry) for entry in entries})
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, DeployError):
            raise
        raise DeployError(f"no Flower App Bundle: {error}") from error


def bundle_file(path: Path) -> tuple[Bundle, bytes]:
    """A bundle on disk, and its bytes. Raises DeployError."""
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise DeployError(f"cannot read the bundle {path} ({error.strerror})") from error
    return read_bundle(content), content


def code_of(files: Mapping[str, bytes]) -> str:
    """The code hash of a bundle's files, as `app.fingerprint.code_hash` takes it from the disk."""
    paths = sorted(path for path in map(PurePosixPath, files) if _is_code(path))
    taken = hashlib.sha256()
    for path in paths:
        content = files[str(path)]
        taken.update(f"{path}\0{len(content)}\0".encode())
        taken.update(content)
    return taken.hexdigest()[:16]


def differences(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[str]:
    """A unified diff of two bundles, line by line, files in order; Flower's own manifest is left out.

    Lines are the bundles' own, whatever they hold: see `app.deploy.foreign`.
    """
    for name in sorted(name for name in {*old, *new} if not name.startswith(".info/")):
        before, after = (_lines(files.get(name)) for files in (old, new))
        yield from difflib.unified_diff(before, after, _from(name, old), _from(name, new), lineterm="")


def changed(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> list[str]:
    """Names of the files that differ, are new or are gone."""
    return sorted(n for n in {*old, *new} if not n.startswith(".info/") and old.get(n) != new.get(n))


def _is_code(path: PurePosixPath) -> bool:
    top = path.parts[0]
    return (top in PACKAGES and path.suffix == ".py") or (top == "conf" and path.suffix == ".yaml")


def _lines(content: bytes | None) -> list[str]:
    """Divided at line feeds alone, and no byte for another: what Python reads otherwise must not look the same."""
    return [] if content is None else content.decode("utf-8", errors="backslashreplace").split("\n")


def _from(name: str, files: Mapping[str, bytes]) -> str:
    return name if name in files else "/dev/null"
