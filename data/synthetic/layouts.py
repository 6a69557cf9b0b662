"""How a hospital keeps its scans: DICOM series with a labels.csv, or LUNA16's folders and tables.

A layout writes one patient at a time (in any process, in any order) and its tables when all are written. It also
says how the hospital's own file names the source that reads it back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.dicom.write import Acquisition, derive_uid, write_series
from data.luna16 import mhd, tables
from data.samples import Candidate
from data.synthetic.phantom import Patient
from data.synthetic.scanners import Scanner
from data.tables import write_rows

LABELS = ("series_uid", "x_mm", "y_mm", "z_mm", "label", "diameter_mm")
SUBSETS = 10
"""LUNA16 comes in ten."""


@dataclass(frozen=True)
class Identity:
    """Which patient of the hospital this is."""

    patient: str
    number: int
    """From 0."""
    study_date: str
    """YYYYMMDD"""
    key: str
    """What its UIDs derive from."""

    @property
    def series_uid(self) -> str:
        return derive_uid("series", self.key)


@dataclass(frozen=True)
class Written:
    """What a scan on disk is called, and what is in it."""

    series_uid: str
    patient: str
    scanner: str
    candidates: tuple[Candidate, ...]


class Layout(Protocol):
    """Where files go."""

    @property
    def source(self) -> Mapping[str, str]:
        """The hospital's source, as in its site.yaml."""

    def write_patient(self, data: Path, patient: Patient, scanner: Scanner, identity: Identity) -> Written:
        """Write one patient's scan."""

    def write_tables(self, data: Path, scans: Sequence[Written]) -> None:
        """Write what is known of all scans."""


@dataclass(frozen=True)
class Dicom:
    """One folder a patient, and labels.csv (LPS, mm; no diameter where there is no nodule)."""

    @property
    def source(self) -> Mapping[str, str]:
        return {"_target_": "data.sources.DicomFolder", "path": "data"}

    def write_patient(self, data: Path, patient: Patient, scanner: Scanner, identity: Identity) -> Written:
        acquisition = Acquisition(
            patient=identity.patient,
            study_date=identity.study_date,
            manufacturer=scanner.manufacturer,
            model=scanner.model,
            kernel=scanner.kernel.name,
            kvp=scanner.kvp,
            key=identity.key,
            is_ascending=scanner.is_ascending,
        )
        write_series(data / identity.patient, patient.volume, acquisition, scanner.encoding)
        return Written(identity.series_uid, identity.patient, scanner.manufacturer, patient.candidates)

    def write_tables(self, data: Path, scans: Sequence[Written]) -> None:
        rows = ((s.series_uid, *c.centre_xyz_mm, c.label, c.diameter_mm or "") for s in scans for c in s.candidates)
        write_rows(data / "labels.csv", LABELS, rows)


@dataclass(frozen=True)
class Luna16:
    """subset0 … subset9 of MetaImages, annotations.csv (nodules) and candidates.csv (nodules and mimics).

    Beside LUNA16's own tables, patients.csv (seriesuid,patient,manufacturer) says what MetaImages cannot.
    """

    @property
    def source(self) -> Mapping[str, str]:
        return {"_target_": "data.sources.Luna16", "path": "data"}

    def write_patient(self, data: Path, patient: Patient, scanner: Scanner, identity: Identity) -> Written:
        subset = data / f"subset{identity.number % SUBSETS}"
        subset.mkdir(parents=True, exist_ok=True)
        mhd.write(subset / f"{identity.series_uid}.mhd", patient.volume)
        return Written(identity.series_uid, identity.patient, scanner.manufacturer, patient.candidates)

    def write_tables(self, data: Path, scans: Sequence[Written]) -> None:
        tables.write_annotations(
            data / "annotations.csv",
            (
                tables.Annotation(scan.series_uid, c.centre_xyz_mm, c.diameter_mm)
                for scan in scans
                for c in scan.candidates
                if c.diameter_mm is not None
            ),
        )
        tables.write_candidates(
            data / "candidates.csv",
            (tables.CandidateRow(scan.series_uid, c.centre_xyz_mm, c.label) for scan in scans for c in scan.candidates),
        )
        owners = ((scan.series_uid, scan.patient, scan.scanner) for scan in scans)
        write_rows(data / "patients.csv", ("seriesuid", "patient", "manufacturer"), owners)


LAYOUTS: Mapping[str, Layout] = {"dicom": Dicom(), "luna16": Luna16()}
"""By the name used in configuration."""
