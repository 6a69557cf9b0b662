"""What sources ask of a file system: is the folder there, and have files changed?"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from data.errors import MissingFolder


def existing_folder(path: str | Path) -> Path:
    """`path` as an absolute Path. Raises MissingFolder."""
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise MissingFolder(f"{folder}: {found} there; a folder of scans is needed, correct source.path")
    return folder


def files_stamp(files: Iterable[Path], *, below: Path) -> str:
    """Names, sizes and times of files, as one digest; content is not read, so it costs microseconds a file.

    Relative to `below`, so a folder that was moved as a whole keeps its stamps.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        stat = file.stat()
        digest.update(f"{file.relative_to(below)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
