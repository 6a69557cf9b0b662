"""The same crops by MONAI's own means: DICOM series → resampled volume → crops around places → turned → batches.

Lighter than most pipelines in use, so that the comparison is hard: no change of orientation, all crops of a scan are
cut from one reading of it, and metadata is not tracked after the crop.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset, PydicomReader, list_data_collate
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandFlipd,
    RandRotate90d,
    ResizeWithPadOrCrop,
    ScaleIntensityRanged,
    Spacingd,
    SpatialCrop,
    Transform,
)

from data.preprocess import Preprocess
from data.sources import DicomFolder

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
"""DICOM's patient axes to those of MONAI's affines."""

Item = dict[str, Any]


@dataclass
class CropAround(Transform):  # type: ignore[misc]  # monai is untyped
    """One item with `centres` (N, 3; LPS, mm) → N items of a plain tensor of `size`³; air where it leaves the scan."""

    size: int

    def __call__(self, item: Mapping[str, Any]) -> list[Item]:
        image = item["image"]
        to_voxels = np.linalg.inv(np.asarray(image.affine))
        pad = ResizeWithPadOrCrop([self.size] * 3)
        crops = []
        for centre, label in zip(item["centres"], item["labels"], strict=True):
            at = (to_voxels @ [*(centre * LPS_TO_RAS), 1.0])[:3]
            cube = SpatialCrop(roi_center=np.rint(at).astype(int), roi_size=[self.size] * 3)(image)
            crops.append({"image": pad(cube).as_tensor().contiguous(), "label": label})
        return crops


def items(folder: Path) -> list[Item]:
    """One item a scan of a hospital's DICOM folder, sorted by scan uid as `open_crops` sorts them."""
    source = DicomFolder(str(folder))
    found = []
    for ref in source.scans():
        places = source.candidates(ref)
        found.append(
            {
                "image": str(folder / ref.patient),
                "centres": np.array([place.centre_xyz_mm for place in places]),
                "labels": torch.tensor([float(place.label) for place in places]),
            }
        )
    return found


def crops_of(item: Item, preprocess: Preprocess) -> torch.Tensor:
    """Crops of one scan before any random change, x_BZYX in our order of axes."""
    cut = Compose(_fixed(preprocess))(item)
    return torch.stack([crop["image"][0].permute(2, 1, 0) for crop in cut])


def reading(found: Sequence[Item], preprocess: Preprocess, scans: int) -> DataLoader:
    """Every scan is read and resampled in every epoch; `scans` a batch."""
    return _loader(Dataset(found, Compose([*_fixed(preprocess), *_random()])), scans)


def cached(found: Sequence[Item], preprocess: Preprocess, scans: int) -> DataLoader:
    """Crops are kept in memory; an epoch only turns them."""
    kept = CacheDataset(found, Compose([*_fixed(preprocess), *_random()]), progress=False, num_workers=1)
    return _loader(kept, scans)


def drain(loader: Iterable[Mapping[str, Any]]) -> int:
    """Take an epoch; how many crops it had."""
    return sum(len(batch["image"]) for batch in loader)


def _loader(dataset: Any, scans: int) -> DataLoader:
    return DataLoader(dataset, batch_size=scans, shuffle=True, num_workers=0, collate_fn=list_data_collate)


def _fixed(preprocess: Preprocess) -> list[Transform]:
    low, high = preprocess.window_hu
    return [
        _load(),
        EnsureChannelFirstd(keys="image"),
        Spacingd(keys="image", pixdim=[preprocess.spacing_mm] * 3, mode="bilinear"),
        ScaleIntensityRanged(keys="image", a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True),
        CropAround(preprocess.size),
    ]


def reader() -> PydicomReader:
    """MONAI's own; it would say each time that nvImageCodec is not installed."""
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    return PydicomReader()


def _load() -> Transform:
    """`LoadImaged` tries every reader it knows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        return LoadImaged(keys="image", reader=reader())


def _random() -> list[Transform]:
    """All 48 turns of a cube may come out, as of `data.augment.Augment`."""
    flips = [RandFlipd(keys="image", prob=0.5, spatial_axis=axis) for axis in range(3)]
    turns = [RandRotate90d(keys="image", prob=0.5, max_k=3, spatial_axes=axes) for axes in ((0, 1), (1, 2))]
    return [*flips, *turns]
