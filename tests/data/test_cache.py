import errno
import multiprocessing
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from data import cache as cache_module
from data.cache import Cache
from data.errors import BadVoxels, CacheError, CacheFull
from data.preprocess import Preprocess
from data.samples import Candidate, ScanRef
from data.volume import CtVolume

WAY = Preprocess(1.0, 4, (-1000, 400))
REF = ScanRef("1.2.3", "P")


@dataclass
class CountingSource:
    """One scan, and how often it was read."""

    volume: CtVolume
    mark: str = "unchanged"
    resident: bool = False
    reads: list[str] = field(default_factory=list)

    def scans(self):
        return [REF]

    def read(self, ref):
        self.reads.append(ref.uid)
        return self.volume

    def candidates(self, ref):
        return [Candidate(self.volume.voxel_to_world((5, 9, 9)), 1)]

    def stamp(self, ref):
        return self.mark


@pytest.fixture
def source(phantom):
    return CountingSource(phantom)


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"))


def entries(cache):
    return sorted(path for path in Path(cache.path).rglob("*") if path.is_file())


def test_a_prepared_scan_comes_back_from_disk_as_it_was_prepared(source, cache):
    expected = WAY.prepare(source.volume)
    for _ in range(2):
        found = cache.get(source, REF, WAY)
        np.testing.assert_array_equal(found.hu_ZYX, expected.hu_ZYX)
        assert found.spacing_zyx_mm == expected.spacing_zyx_mm
        assert found.origin_xyz_mm == expected.origin_xyz_mm
        assert found.direction == expected.direction
        assert found.provenance == expected.provenance
    assert source.reads == ["1.2.3"]


def test_what_it_gives_cannot_be_written_to(source, cache):
    with pytest.raises(ValueError, match="read-only"):
        cache.get(source, REF, WAY).hu_ZYX[0, 0, 0] = 1


@pytest.mark.parametrize("change", ["stamp", "spacing", "window", "uid"])
def test_whatever_changes_the_voxels_changes_the_entry(source, cache, change):
    cache.get(source, REF, WAY)
    ref, way = REF, WAY
    if change == "stamp":
        source.mark = "exported again"
    elif change == "spacing":
        way = Preprocess(2.0, 4, (-1000, 400))
    elif change == "window":
        way = Preprocess(1.0, 4, (-1000, 500))
    else:
        ref = ScanRef("1.2.4", "P")
    cache.get(source, ref, way)
    assert len(source.reads) == 2


def test_the_size_of_crops_does_not(source, cache):
    cache.get(source, REF, WAY)
    cache.get(source, REF, Preprocess(1.0, 6, (-1000, 400)))
    assert len(source.reads) == 1


@pytest.mark.parametrize("spoil", [lambda b: b[:-2], lambda b: b"", lambda b: b[:100], lambda b: b"x" + b[1:]])
def test_an_entry_that_is_not_whole_is_made_again(source, cache, spoil):
    cache.get(source, REF, WAY)
    (entry,) = entries(cache)
    entry.write_bytes(spoil(entry.read_bytes()))
    np.testing.assert_array_equal(cache.get(source, REF, WAY).hu_ZYX, WAY.prepare(source.volume).hu_ZYX)
    assert len(source.reads) == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(source, cache, monkeypatch, code):
    def full(fd):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache_module.os, "fsync", full)
    with pytest.raises(CacheFull, match="no room for a prepared scan"):
        cache.get(source, REF, WAY)
    assert entries(cache) == []
    monkeypatch.undo()
    assert cache.get(source, REF, WAY) is not None


FILL_A_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from data.cache import Cache
from data.errors import CacheFull
from tests.data.test_cache import CountingSource, REF, WAY
from data.volume import CtVolume

scan = CountingSource(CtVolume(np.zeros((40, 40, 40), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # the kernel refuses the write, as on a full disk
try:
    Cache(sys.argv[1]).get(scan, REF, WAY)
except CacheFull as error:
    print("full:", error)
"""


def test_the_kernels_own_refusal_leaves_nothing_half_written(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILL_A_DISK, str(tmp_path / "cache")], capture_output=True, text=True, check=False
    )
    assert "full:" in done.stdout, done.stderr
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheError, match="cannot be used"):
        Cache(str(tmp_path / "file")).get(source, REF, WAY)


def test_a_scan_that_cannot_be_read_leaves_nothing(source, cache, monkeypatch):
    def broken(ref):
        raise BadVoxels("broken")

    monkeypatch.setattr(source, "read", broken)
    with pytest.raises(BadVoxels):
        cache.get(source, REF, WAY)
    assert entries(cache) == []


def test_who_waits_finds_what_the_other_prepared(source, cache):
    # The first to come holds the entry's lock while it reads; the others wait at the lock, then find the entry.
    started, go_on = threading.Event(), threading.Event()
    slow_read = source.read

    def read(ref):
        started.set()
        assert go_on.wait(10)
        return slow_read(ref)

    source.read = read
    found = []
    threads = [threading.Thread(target=lambda: found.append(cache.get(source, REF, WAY))) for _ in range(4)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(found) == 4
    assert source.reads == ["1.2.3"]


def _fill(path, results):
    volume = CtVolume(
        np.random.default_rng(0).integers(-1000, 400, (30, 40, 50)).astype(np.int16), (1.5, 1.0, 1.0), (0, 0, 0)
    )
    sums = [int(Cache(path).get(CountingSource(volume), ScanRef(f"1.{k}", "P"), WAY).hu_ZYX.sum()) for k in range(5)]
    results.put(sums)


def test_several_processes_may_fill_one_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_fill, args=(str(tmp_path / "cache"), results)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    assert sums[0] == sums[1] == sums[2]
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 5
