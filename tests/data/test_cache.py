import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from data.cache import Cache
from data.errors import BadSetting, BadVoxels, CacheError, CacheFull
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


HOUR = 3600


def aged(entry, seconds):
    """As if nobody had opened it for so long; its seal is whole."""
    then = entry.stat().st_mtime_ns - seconds * 10**9
    os.utime(entry, ns=(then, then))


def flipped(entry, at):
    with entry.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("at", [3, 30, 4096, 9000], ids=["checksum", "geometry", "first voxel", "a voxel"])
def test_a_flipped_bit_is_found_and_the_entry_made_again(source, cache, at):
    cache.get(source, REF, WAY)
    (entry,) = entries(cache)
    flipped(entry, at)
    np.testing.assert_array_equal(cache.get(source, REF, WAY).hu_ZYX, WAY.prepare(source.volume).hu_ZYX)
    assert len(source.reads) == 2


def test_a_bit_that_flips_by_itself_is_found_within_the_hour(source, cache):
    # A failing disk changes voxels and not the time of last change.
    cache.get(source, REF, WAY)
    (entry,) = entries(cache)
    sealed = entry.stat().st_mtime_ns
    flipped(entry, 9000)
    os.utime(entry, ns=(sealed, sealed))
    assert cache.get(source, REF, WAY).hu_ZYX is not None
    assert len(source.reads) == 1  # believed
    aged(entry, HOUR + 1)
    np.testing.assert_array_equal(cache.get(source, REF, WAY).hu_ZYX, WAY.prepare(source.volume).hu_ZYX)
    assert len(source.reads) == 2


def test_a_whole_entry_is_not_read_through_at_each_opening(source, cache, monkeypatch):
    cache.get(source, REF, WAY)
    compared = []
    crc32 = zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda content: compared.append(memoryview(content).nbytes) or crc32(content))
    cache.get(source, REF, WAY)
    assert max(compared) < 4096
    (entry,) = entries(cache)
    aged(entry, HOUR + 1)
    for _ in range(2):
        cache.get(source, REF, WAY)
    assert [size for size in compared if size > 4096] == [entry.stat().st_size - 4096]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(source, cache, monkeypatch, code):
    def full(fd):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
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


# --- a limit ---

SIZE = 4096 + 2 * 10 * 20 * 30
"""Bytes of an entry of `cohort`."""


@pytest.fixture
def cohort():
    return CountingSource(CtVolume(np.zeros((10, 20, 30), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))


def limited(tmp_path, entries):
    return Cache(str(tmp_path / "cache"), limit_gb=(entries + 0.5) * SIZE / 1e9)


def used(cache, cohort, *uids):
    """Open scans one after another, an hour apart, and keep none of them open."""
    for uid in uids:
        for entry in Path(cache.path).rglob("*.scan"):
            aged(entry, HOUR)
        cache.get(cohort, ScanRef(uid, "P"), WAY)


def held(cache):
    return sum(_size(path) for path in Path(cache.path).rglob("*.scan"))


def _size(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process removed it since it was listed
        return 0


def test_what_was_not_used_for_longest_gives_way(tmp_path, cohort):
    cache = limited(tmp_path, entries=3)
    used(cache, cohort, "1", "2", "3", "1", "4")
    assert held(cache) == 3 * SIZE
    cohort.reads.clear()
    used(cache, cohort, "1", "3", "4")
    assert cohort.reads == []
    used(cache, cohort, "2")
    assert cohort.reads == ["2"]


def test_no_more_gives_way_than_must(tmp_path, cohort):
    cache = limited(tmp_path, entries=3)
    used(cache, cohort, "1", "2", "3")
    assert held(cache) == 3 * SIZE
    used(Cache(cache.path), cohort, "4", "5")  # without a limit nothing does
    assert held(cache) == 5 * SIZE


def test_scans_in_use_stay_and_a_limit_below_them_is_named(tmp_path, cohort):
    cache = limited(tmp_path, entries=2)
    in_use = [cache.get(cohort, ScanRef(uid, "P"), WAY) for uid in ("1", "2")]
    with pytest.raises(CacheFull, match=r"3.22e-05 GB are in use, 0\.0 MB more .* make cache_gb larger"):
        cache.get(cohort, ScanRef("3", "P"), WAY)
    assert held(cache) == 2 * SIZE
    in_use.pop()
    cache.get(cohort, ScanRef("3", "P"), WAY)
    assert held(cache) == 2 * SIZE
    np.testing.assert_array_equal(in_use[0].hu_ZYX, np.zeros((10, 20, 30)))


def test_what_another_process_has_open_stays(tmp_path, cohort):
    cache = limited(tmp_path, entries=1)
    hold = "from tests.data.test_cache import *; import sys\n" \
           "scan = CountingSource(CtVolume(np.zeros((10, 20, 30), np.int16), (1.0,) * 3, (0.0,) * 3))\n" \
           "mapped = Cache(sys.argv[1]).get(scan, ScanRef('1', 'P'), WAY)\n" \
           "print('open', flush=True); sys.stdin.read()"  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", hold, cache.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(CacheFull):
            cache.get(cohort, ScanRef("2", "P"), WAY)
        other.communicate("", timeout=30)
    cache.get(cohort, ScanRef("2", "P"), WAY)
    assert held(cache) == SIZE


def _fill_within(path, limit_gb, seed, results):
    rng, largest = np.random.default_rng(seed), 0
    cache = Cache(path, limit_gb)
    scan = CountingSource(CtVolume(np.zeros((10, 20, 30), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    for k in rng.integers(0, 12, 60):
        assert cache.get(scan, ScanRef(str(k), "P"), WAY).hu_ZYX.sum() == 0
        largest = max(largest, held(cache))
    results.put(largest)


def test_several_processes_keep_one_limit(tmp_path):
    # Each has one scan open at most: of five, some entry can always give way.
    cache = limited(tmp_path, entries=5)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=_fill_within, args=(cache.path, cache.limit_gb, seed, results)) for seed in range(3)
    ]
    for process in processes:
        process.start()
    assert max(results.get(timeout=60) for _ in processes) <= 5.5 * SIZE
    for process in processes:
        process.join(20)
        assert process.exitcode == 0


def test_what_a_dead_process_left_aside_is_swept_away(tmp_path, cohort):
    cache = limited(tmp_path, entries=2)
    aside = tmp_path / "cache" / "ab" / "abc.123.tmp"
    aside.parent.mkdir(parents=True)
    aside.write_bytes(b"half")
    used(cache, cohort, "1")
    assert aside.exists()  # it may be at work
    aged(aside, 2 * HOUR)
    used(cache, cohort, "2")
    assert not aside.exists()


@pytest.mark.parametrize("limit_gb", [0, -1.0, float("nan")])
def test_a_limit_of_nothing_is_refused(tmp_path, limit_gb):
    with pytest.raises(BadSetting, match="GB; give more than 0"):
        Cache(str(tmp_path), limit_gb)
