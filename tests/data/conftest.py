"""Small scans made on the spot: real formats, no patients."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from data.volume import CtVolume

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"

WriteSeries = Callable[..., list[Path]]


@pytest.fixture
def real_data() -> Path:
    if not REAL.is_dir():
        pytest.skip("the real imaging data is not beside this checkout (../shared/data)")
    return REAL


@pytest.fixture
def phantom() -> CtVolume:
    """A scan of 12 × 20 × 24 voxels in which every voxel has its own value."""
    hu = np.arange(12 * 20 * 24, dtype=np.int16).reshape(12, 20, 24) - 1000
    return CtVolume(hu, spacing_zyx_mm=(2.5, 0.7, 0.8), origin_xyz_mm=(-101.5, 33.25, -700.125))


@pytest.fixture
def write_series() -> WriteSeries:
    return _write_series


def _write_series(
    folder: Path,
    hu_ZYX: np.ndarray,
    *,
    uid: str = "1.2.3",
    patient: str = "P1",
    spacing_zyx_mm: Sequence[float] = (1.0, 1.0, 1.0),
    origin_xyz_mm: Sequence[float] = (0.0, 0.0, 0.0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    slope: float = 1.0,
    intercept: float = -1024.0,
    table_xyz: Sequence[float] | None = None,
    leave_out: Sequence[int] = (),
    alter: Callable[[Dataset, int], None] = lambda dataset, z: None,
) -> list[Path]:
    """Write a CT series, one file a slice; `alter` may spoil each slice before it is written.

    Slices follow each other along their normal, or along `table_xyz`: a tilted gantry's do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:]) if table_xyz is None else np.array(table_xyz)
    paths = []
    for z in [z for z in range(len(hu_ZYX)) if z not in leave_out]:
        dataset = Dataset()
        dataset.SOPClassUID = CTImageStorage
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SOPInstanceUID = f"{uid}.{z + 1}"
        dataset.SeriesInstanceUID = uid
        dataset.PatientID = patient
        dataset.Manufacturer = "Maker"
        dataset.Modality = "CT"
        dataset.InstanceNumber = len(hu_ZYX) - z  # descends with z, as on many scanners
        dataset.ImagePositionPatient = [
            float(v) for v in np.add(origin_xyz_mm, normal * z * spacing_zyx_mm[0]).round(6)
        ]
        dataset.ImageOrientationPatient = [float(v) for v in orientation]
        dataset.PixelSpacing = [float(v) for v in spacing_zyx_mm[1:]]
        dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)
        dataset.Rows, dataset.Columns = hu_ZYX.shape[1:]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.PixelData = np.rint((hu_ZYX[z] - intercept) / slope).astype("<i2").tobytes()
        alter(dataset, z)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        paths.append(folder / f"slice{(z * 7) % len(hu_ZYX):03d}.dcm")  # names in no order
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths
