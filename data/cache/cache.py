"""A folder of prepared scans, shared by any number of processes.

An entry is one file, named by what it was made from: scan uid × the scan's stamp on disk (with the version of the code
that reads it) × preprocessing (likewise). If any of them changes, so does the name; nothing is ever stale.

Any number of processes may fill one cache: an entry appears whole, by rename, or not at all.
"""

import errno
import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.cache.entry import FORMAT, PAGE, open_entry, write_entry
from data.cache.room import room_for
from data.errors import BadCacheEntry, BadSetting, CacheError, CacheFull
from data.preprocess import Preprocess
from data.samples import ScanRef
from data.sources.source import Source
from data.volume import CtVolume

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Cache:
    """A folder of prepared scans. It is made when first written to.

    Args:
        path: the folder.
        limit_gb: the most it may hold; the entries that were not used for longest give way, those in use never do.
            None: as much as the disk has.

    Raises:
        BadSetting
    """

    path: str
    limit_gb: float | None = None

    def __post_init__(self) -> None:
        if self.limit_gb is not None and not self.limit_gb > 0:
            raise BadSetting(f"a cache of {self.limit_gb} GB; give more than 0, or nothing for as much as the disk has")

    def get(self, source: Source, ref: ScanRef, preprocess: Preprocess) -> CtVolume:
        """The prepared scan, memory-mapped and read-only; prepared and stored first where it is not there yet.

        Raises:
            CacheFull: no room on the disk, or below the limit; nothing half-written is left.
            CacheError: the folder cannot be used.
            ScanError: the scan cannot be read.
        """
        entry = self._entry(source, ref, preprocess)
        found = self._found(entry)
        if found is not None:
            return found
        with self._filling(entry):
            # Another process may have filled it while this one waited.
            found = self._found(entry)
            return self._filled(entry, preprocess.prepare(source.read(ref))) if found is None else found

    def _entry(self, source: Source, ref: ScanRef, preprocess: Preprocess) -> Path:
        made_from = json.dumps([FORMAT, ref.uid, source.stamp(ref), preprocess.volume_fingerprint()])
        name = hashlib.sha256(made_from.encode()).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.scan"

    @property
    def _folder(self) -> Path:
        return Path(self.path).expanduser().absolute()

    def _found(self, entry: Path) -> CtVolume | None:
        """None where there is no entry, or one that cannot be used: it is then written again."""
        try:
            with self._explained():
                return open_entry(entry)
        except BadCacheEntry:
            return None

    def _filled(self, entry: Path, volume: CtVolume) -> CtVolume:
        needed = PAGE + 2 * volume.hu_ZYX.size
        with self._explained(needed=needed):
            if self.limit_gb is None:
                return write_entry(entry, volume)
            with room_for(needed, self._folder, limit=int(self.limit_gb * 1e9)):
                return write_entry(entry, volume)

    @contextmanager
    def _filling(self, entry: Path) -> Iterator[None]:
        """One process at a time prepares one entry; the others wait for it instead of preparing it too."""
        with self._explained():
            entry.parent.mkdir(parents=True, exist_ok=True)
            lock = entry.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            entry.with_suffix(".lock").unlink(missing_ok=True)
            lock.close()

    @contextmanager
    def _explained(self, *, needed: int = 0) -> Iterator[None]:
        """The operating system's errors as ours."""
        try:
            yield
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise CacheFull(
                    f"{self._folder}: no room for a prepared scan of {needed / 1e6:.1f} MB ({error.strerror}); free "
                    "some space, or set cache_dir to a larger disk"
                ) from error
            raise CacheError(
                f"{self._folder}: cannot be used ({error.strerror}); correct cache_dir or its rights"
            ) from error
