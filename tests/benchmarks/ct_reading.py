"""From a CT on disk to the first crop, and crops from the cache: the real LIDC series, beside SimpleITK and MONAI.

One thread on each side. The files are in the system's memory after the first reading: what is timed is the reading of
DICOM, not the disk.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
import torch
from monai.data import DataLoader, MetaTensor, PersistentDataset
from monai.transforms import Compose, EnsureChannelFirst, Flip, Lambda, LoadImage, Spacing, SpatialCrop

from data.cache import Cache
from data.dataset import Crops, open_crops
from data.dicom import read_series
from data.preprocess import Preprocess
from data.sources import DicomFolder
from tests.benchmarks.clock import Series, interleaved, timed
from tests.benchmarks.monai_pipelines import LPS_TO_RAS, reader
from tests.benchmarks.row import Row, Target, at_least, at_most, compared, skipped

LIDC = Path(__file__).resolve().parents[3] / "shared" / "data" / "lidc-idri-0314" / "dicom"
NODULE_XYZ_MM = (-57.139, 131.233, -520.359)
"""LUNA16's annotation of this series, moved by 0.3 mm in x: there both grids, which lie 0.1 mm apart, have the same
nearest voxel."""
PREPROCESS = Preprocess(spacing_mm=1.0, size=32, window_hu=(-1000.0, 400.0))

PLACES, BATCH, WORKERS = 960, 32, 4
SERIES, SIDE = 37, 32
"""Of the header scan: 275 slices each, small ones with the real headers."""
SCAN_S = 20.0
"""What a look at so many headers may take."""

ALIKE_HU = 25.0
"""Mean difference of the two pipelines' crops: their grids of 1 mm lie up to half a voxel apart."""

READ = "DICOM series to HU against SimpleITK"
MEMORY = "peak memory of reading a DICOM series against the volume"
FIRST = "DICOM series to 1 mm to the first crop against MONAI"
CACHED = "cached crops a second, 4 workers, against MONAI's PersistentDataset"
HEADERS = "headers of 10,000 slices against what they may take"
TARGETS = {
    READ: at_most(1.0), MEMORY: at_most(1.5), FIRST: at_most(0.5), CACHED: at_least(2.0), HEADERS: at_most(1.0)
}  # fmt: skip


def rows(full: bool) -> Iterator[Row]:
    """Five rows, a minute or two; none where the real series is absent."""
    if not LIDC.is_dir():
        why = "the real LIDC series is not beside this checkout (../shared/data)"
        yield from (skipped(name, target, why) for name, target in TARGETS.items())
        return
    files = sorted(LIDC.glob("*.dcm"))
    yield _reading(files, repeats=9 if full else 3)
    yield _memory(files)
    yield _first_crop(files, repeats=3 if full else 1)
    with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as folder:
        yield _cached(Path(folder), repeats=9 if full else 3)
        yield _headers(Path(folder), files)


# --- a series to Hounsfield units ---


def _reading(files: Sequence[Path], *, repeats: int) -> Row:
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if not np.array_equal(read_series(files).hu_ZYX, SimpleITK.GetArrayFromImage(_by_itk())):
        raise RuntimeError("the two readers give other voxels")
    took = interleaved({"ours": lambda: read_series(files), "theirs": _by_itk}, repeats=repeats)
    return _row(READ, took, note=f"{len(files)} slices of 512², medians of {repeats}; both sort the files")


def _by_itk() -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(LIDC)))
    return reader.Execute()


def _memory(files: Sequence[Path]) -> Row:
    """In a process of its own, above what importing took."""
    code = (
        "import json, sys; from data.dicom import read_series; from tests.benchmarks import memory_of_a_round as m\n"
        "before = m.resident_mb('VmRSS'); m.reset_peak(); volume = read_series(sys.argv[1:])\n"
        "print(json.dumps([m.resident_mb('VmHWM') - before, volume.hu_ZYX.nbytes / 1e6]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=True)
    peak_mb, volume_mb = json.loads(done.stdout)
    return compared(
        MEMORY, ours=peak_mb, reference=volume_mb, unit="MB", target=TARGETS[MEMORY], note="above what importing took"
    )


# --- the first crop ---


def _first_crop(files: Sequence[Path], *, repeats: int) -> Row:
    apart = float(np.abs(_ours(files) - _by_monai()).mean()) * 1400.0
    if apart > ALIKE_HU:
        raise RuntimeError(f"the two pipelines cut other crops: {apart:.1f} HU apart, at most {ALIKE_HU} are expected")
    took = interleaved({"ours": lambda: _ours(files), "theirs": _by_monai}, repeats=repeats)
    return _row(FIRST, took, note=f"crops of 32³ around LUNA16's nodule, {apart:.1f} HU apart; medians of {repeats}")


def _ours(files: Sequence[Path]) -> np.ndarray[Any, Any]:
    return PREPROCESS.crop(PREPROCESS.prepare(read_series(files)), NODULE_XYZ_MM)


def _by_monai() -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        load = LoadImage(reader=reader())
    upright = Flip(spatial_axis=2)  # as ours: its reader keeps these slices from the head down
    image = Spacing(pixdim=[1.0] * 3, mode="bilinear")(upright(EnsureChannelFirst()(load(str(LIDC)))))
    at = (np.linalg.inv(np.asarray(image.affine)) @ [*(np.array(NODULE_XYZ_MM) * LPS_TO_RAS), 1.0])[:3]
    crop: MetaTensor = SpatialCrop(roi_center=np.rint(at).astype(int), roi_size=[PREPROCESS.size] * 3)(image)
    x_ZYX = crop.as_tensor()[0].permute(2, 1, 0).numpy()
    low, high = PREPROCESS.window_hu
    return np.asarray(np.clip((x_ZYX - low) / (high - low), 0.0, 1.0))


# --- crops from the cache ---


def _cached(folder: Path, *, repeats: int) -> Row:
    crops = _labelled(folder)
    kept = PersistentDataset(list(range(len(crops))), Compose([Lambda(_Crop(crops))]), cache_dir=folder / "monai")
    theirs, ours = _loader(kept), itertools.count()
    for drained in (_drained(theirs), _read(crops, next(ours))):  # fills their cache, starts their workers
        if drained != len(crops):
            raise RuntimeError(f"{drained} crops came, {len(crops)} are there")
    took = interleaved({"ours": lambda: _read(crops, next(ours)), "theirs": lambda: _drained(theirs)}, repeats=repeats)
    return compared(
        CACHED,
        ours=len(crops) / took["ours"].wall,
        reference=len(crops) / took["theirs"].wall,
        unit="/s",
        target=TARGETS[CACHED],
        note=f"{len(crops)} crops of 32³ at random, medians of {repeats} epochs; ours are cut from the mapped scan by "
        "threads, theirs lie on disk one by one, each cut already, and are read by torch's worker processes",
    )


def _read(crops: Crops, epoch: int) -> int:
    """All crops once, a batch at a time, by our own means: mapped memory needs no other process."""
    order = np.random.default_rng(epoch).permutation(len(crops))
    plan = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(len(torch.from_numpy(x_BCZYX)) for x_BCZYX, _ in pool.map(crops.batch, plan))


class _Crop:
    def __init__(self, crops: Crops) -> None:
        self.crops = crops

    def __call__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.crops.batch([index])[0][0])


def _labelled(folder: Path) -> Crops:
    """Crops at places all over the scan, mapped from the cache."""
    bare = DicomFolder(str(LIDC), labels=None)
    (ref,) = bare.scans()
    volume = bare.read(ref)
    inside = np.random.default_rng(0).uniform(0.2, 0.8, (PLACES, 3)) * volume.hu_ZYX.shape
    places = [volume.voxel_to_world(tuple(voxel)) for voxel in inside.tolist()]
    labels = folder / "labels.csv"
    lines = [f"{ref.uid},{x:.2f},{y:.2f},{z:.2f},{i % 2}" for i, (x, y, z) in enumerate(places)]
    labels.write_text("\n".join(["series_uid,x_mm,y_mm,z_mm,label", *lines]) + "\n", encoding="utf-8")
    return open_crops(DicomFolder(str(LIDC), labels=str(labels)), PREPROCESS, Cache(str(folder / "cache")))


def _loader(dataset: Any) -> Any:
    return DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="fork",
    )


def _drained(loader: Any) -> int:
    return sum(len(batch) for batch in loader)


# --- headers ---


def _headers(folder: Path, files: Sequence[Path]) -> Row:
    written = _many(folder / "many", files)
    source = DicomFolder(str(folder / "many"), labels=None)
    took = timed(lambda: source.survey())
    usable = sum(stack.error is None for stack in source.survey())
    if usable != SERIES:
        raise RuntimeError(f"{usable} of {SERIES} series are usable")
    note = f"{written} files of {SERIES} series, grouped, sorted and judged; one process"
    return compared(HEADERS, ours=took.wall, reference=SCAN_S, unit="s", target=TARGETS[HEADERS], note=note)


def _many(folder: Path, files: Sequence[Path]) -> int:
    """Copies of the series under other UIDs, with their own headers and few pixels."""
    slices = [_small(file) for file in files]
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    for number in range(SERIES):
        place, other = folder / f"{number:02d}", f"{uid[:-4]}{number:04d}"
        place.mkdir(parents=True)
        for i, content in enumerate(slices):
            (place / f"{i:04d}").write_bytes(content.replace(uid.encode(), other.encode()))
    return SERIES * len(slices)


def _small(file: Path) -> bytes:
    dataset = pydicom.dcmread(file)
    dataset.Rows = dataset.Columns = SIDE
    dataset.PixelData = bytes(2 * SIDE * SIDE)
    out = pydicom.filebase.DicomBytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # real headers break rules of the standard
        dataset.save_as(out)
    return bytes(out.getvalue())


def _row(name: str, took: dict[str, Series], *, note: str) -> Row:
    target: Target = TARGETS[name]
    return compared(name, ours=took["ours"].wall, reference=took["theirs"].wall, unit="s", target=target, note=note)
