"""Hospitals of DICOM on disk, and copies of them with one thing wrong."""

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from data.dicom.write import Acquisition, Encoding, write_series
from data.sources import DicomFolder
from data.synthetic import write_cohort
from data.volume import CtVolume

FRAME = {"matrix": 128, "field_of_view_mm": 310.0, "length_mm": 90.0, "candidates": 30}
PATIENTS = 5

Row = dict[str, str]
Change = Callable[[Path], None]


def write_hospitals(folder: Path, vendors: dict[str, str], patients: int = PATIENTS, **frame: float) -> Path:
    """DIR/NAME as `fedvox data synth` writes it, all in DICOM."""
    orders = {name: {"patients": patients, "scanner": vendor, **FRAME, **frame} for name, vendor in vendors.items()}
    write_cohort(folder, hospitals=orders, seed=4, workers=1)
    return folder


def spoiled(hospital: Path, into: Path, *changes: Change) -> Path:
    """A copy of a hospital, without what it keeps, changed."""
    shutil.copytree(hospital, into, ignore=shutil.ignore_patterns("cache", "state"))
    (into / "state").mkdir()
    for change in changes:
        change(into / "data")
    return into


# --- headers ---


def headers(alter: Callable[[pydicom.Dataset], None]) -> Change:
    def change(data: Path) -> None:
        for file in data.rglob("*.dcm"):
            dataset = pydicom.dcmread(file)
            alter(dataset)
            dataset.save_as(file)

    return change


def without_rescale(dataset: pydicom.Dataset) -> None:
    dataset.RescaleIntercept = "0"


def in_units_of(mm: float) -> Callable[[pydicom.Dataset], None]:
    def alter(dataset: pydicom.Dataset) -> None:
        dataset.PixelSpacing = [float(v) / mm for v in dataset.PixelSpacing]
        dataset.ImagePositionPatient = [round(float(v) / mm, 6) for v in dataset.ImagePositionPatient]

    return alter


# --- voxels ---


def voxels(
    turn: Callable[[CtVolume], CtVolume], *, with_labels: Callable[[CtVolume, np.ndarray], np.ndarray]
) -> Change:
    """Write every series anew with other voxels; `with_labels` moves places (x, y, z mm), so that they go along."""

    def change(data: Path) -> None:
        folder = DicomFolder(str(data))
        moved: dict[str, CtVolume] = {}
        for ref in folder.scans():
            volume = folder.read(ref)
            moved[ref.uid] = volume
            place = data / ref.patient
            one = pydicom.dcmread(next(place.glob("*.dcm")))
            shutil.rmtree(place)
            said = Acquisition(ref.patient, one.StudyDate, one.Manufacturer, "model", "kernel", 120, key=ref.uid)
            for file in write_series(place, turn(volume), said, Encoding()):
                dataset = pydicom.dcmread(file)
                dataset.SeriesInstanceUID = ref.uid
                dataset.save_as(file)
        labels(lambda row: _moved(row, moved[row["series_uid"]], with_labels))(data)

    return change


def _moved(row: Row, volume: CtVolume, move: Callable[[CtVolume, np.ndarray], np.ndarray]) -> Row:
    places = move(volume, np.array([[float(row[axis]) for axis in ("x_mm", "y_mm", "z_mm")]]))[0]
    return {**row, **dict(zip(("x_mm", "y_mm", "z_mm"), map(str, places.round(3).tolist()), strict=True))}


def flipped(axis: int) -> Change:
    """Voxels the other way round along Z (0), Y (1) or X (2), labels with them; headers know nothing of it."""

    def turn(volume: CtVolume) -> CtVolume:
        return replace(volume, hu_ZYX=np.ascontiguousarray(np.flip(volume.hu_ZYX, axis)))

    def move(volume: CtVolume, places: np.ndarray) -> np.ndarray:
        along, mm = 2 - axis, volume.spacing_zyx_mm[axis]
        out = places.copy()
        out[:, along] = 2 * volume.origin_xyz_mm[along] + (volume.hu_ZYX.shape[axis] - 1) * mm - places[:, along]
        return out

    return voxels(turn, with_labels=move)


def swapped_axes(*axes: int) -> Change:
    """Voxels with their axes in another order, labels with them."""

    def turn(volume: CtVolume) -> CtVolume:
        spacing = tuple(volume.spacing_zyx_mm[axis] for axis in axes)
        return replace(volume, hu_ZYX=np.ascontiguousarray(volume.hu_ZYX.transpose(axes)), spacing_zyx_mm=spacing)

    def move(volume: CtVolume, places: np.ndarray) -> np.ndarray:
        origin = np.array(volume.origin_xyz_mm)
        from_origin_zyx = (places - origin)[:, ::-1]
        return from_origin_zyx[:, list(axes)][:, ::-1] + origin

    return voxels(turn, with_labels=move)


# --- labels ---


def labels(alter: Callable[[Row], Row]) -> Change:
    return _table(lambda rows: map(alter, rows))


def no_labels(data: Path) -> None:
    _table(lambda rows: iter(()))(data)


def swap(row: Row) -> Row:
    return {**row, "label": str(1 - int(row["label"]))}


def swap_and_drop_diameters(row: Row) -> Row:
    return {**swap(row), "diameter_mm": ""}


def scaled(factor: float) -> Callable[[Row], Row]:
    return lambda row: {**row, **{axis: str(float(row[axis]) * factor) for axis in ("x_mm", "y_mm", "z_mm")}}


def in_the_corner(data: Path) -> None:
    """Every label in the air beside the patient."""
    folder = DicomFolder(str(data))
    corners = {}
    for ref in folder.scans():
        volume = folder.read(ref)
        corners[ref.uid] = volume.voxel_to_world((volume.hu_ZYX.shape[0] / 2, 4, 4))

    def move(row: Row) -> Row:
        return {**row, **dict(zip(("x_mm", "y_mm", "z_mm"), map(str, corners[row["series_uid"]]), strict=True))}

    labels(move)(data)


def _table(alter: Callable[[Iterator[Row]], Iterator[Row]]) -> Change:
    def change(data: Path) -> None:
        file = data / "labels.csv"
        with file.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text)
            rows, names = list(reader), list(reader.fieldnames or ())
        with file.open("w", newline="", encoding="utf-8") as text:
            writer = csv.DictWriter(text, names)
            writer.writeheader()
            writer.writerows(alter(iter(rows)))

    return change
