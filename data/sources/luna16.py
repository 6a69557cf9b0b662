"""LUNA16's folder, as distributed.

    path/subset0 … subset9/UID.mhd + UID.raw (or .zraw)     scans; they may also lie in `path` itself
    path/annotations.csv                                    nodules with diameters
    path/candidates_V2.csv or candidates.csv                places with class 0 or 1
    path/patients.csv                                       optional: seriesuid[,patient][,manufacturer]

Tables may name scans that are not there (a user may hold one subset only). Without `patients.csv` each scan counts as
one patient, and says that it is not known (`ScanRef.is_patient_known`): LUNA16 itself has patients of two scans
(LIDC-IDRI-0332), and its own files do not tell.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data.dicom.hounsfield import padding_to_air
from data.errors import BadTable, EmptySource, UnknownScan
from data.luna16 import mhd, tables
from data.samples import Candidate, ScanRef
from data.sources.files import existing_folder, files_stamp
from data.tables import read_columns, text
from data.volume import CtVolume

_CANDIDATE_TABLES = ("candidates_V2.csv", "candidates.csv")
"""The first that is there; V2 holds all of the other and more (LUNA16's own recommendation)."""

FOLDS = range(10)
"""The set's official division for cross-validation: one subset is the test, nine train."""


@dataclass(frozen=True)
class Luna16:
    """Scans and candidates of a LUNA16 folder.

    Args:
        path: the folder.
        subsets: which of subset0 … subset9 to read; None reads all, and scans that lie in `path` itself.
        negatives: keep at most so many candidates of class 0 a scan; None keeps all (LUNA16 has about 500 to each of
            class 1, more than any epoch can use).
        seed: decides which; one scan's choice does not depend on the other scans.
        one_scan_a_patient: the hospital's word that no two scans are of one person, where no `patients.csv` says whose
            they are.

    Raises:
        MissingFolder, EmptySource, BadTable
    """

    path: str
    subsets: Sequence[int] | None = None
    negatives: int | None = None
    seed: int = 0
    one_scan_a_patient: bool = False

    @property
    def resident(self) -> bool:
        return False

    def scans(self) -> list[ScanRef]:
        return [self._ref(uid, at) for uid, at in self._headers.items()]

    def read(self, ref: ScanRef) -> CtVolume:
        volume = mhd.read(self._header(ref))
        cleaned = padding_to_air(volume.hu_ZYX)
        return volume if cleaned is volume.hu_ZYX else volume.with_array(cleaned, did="padding replaced by air")

    def candidates(self, ref: ScanRef) -> list[Candidate]:
        """Rows of the candidates table; nodules alone (label 1) where there is none."""
        nodules = self._annotations.get(ref.uid, [])
        if self._candidates is None:
            return [Candidate(n.centre_xyz_mm, 1, n.diameter_mm) for n in nodules]
        rows = _thinned(self._candidates.of(ref.uid), self.negatives, seed=self.seed)
        return [Candidate(row.centre_xyz_mm, row.label, _diameter_at(row, nodules)) for row in rows]

    def stamp(self, ref: ScanRef) -> str:
        header = self._header(ref)
        voxels = (header.with_suffix(suffix) for suffix in (".raw", ".zraw"))
        return files_stamp([header, *(file for file in voxels if file.is_file())], below=header.parent)

    def _ref(self, uid: str, header: Path) -> ScanRef:
        patient, maker, is_known = self._patients.get(uid, (uid, "", self.one_scan_a_patient))
        return ScanRef(uid, patient, maker, fold=_fold(header), is_patient_known=is_known)

    def _header(self, ref: ScanRef) -> Path:
        if ref.uid not in self._headers:
            raise UnknownScan(f"{self._folder}: no scan {ref.uid} among {len(self._headers)}")
        return self._headers[ref.uid]

    @cached_property
    def _folder(self) -> Path:
        return existing_folder(self.path)

    @cached_property
    def _headers(self) -> Mapping[str, Path]:
        names = [f"subset{k}" for k in (FOLDS if self.subsets is None else self.subsets)]
        places = [self._folder / name for name in names] + ([self._folder] if self.subsets is None else [])
        headers = {file.stem: file for place in places for file in place.glob("*.mhd")}
        if not headers:
            raise EmptySource(f"{self._folder}: no .mhd in {', '.join(names)}; correct source.path or source.subsets")
        return dict(sorted(headers.items()))

    @cached_property
    def _annotations(self) -> Mapping[str, list[tables.Annotation]]:
        found: dict[str, list[tables.Annotation]] = {}
        for row in tables.read_annotations(self._folder / "annotations.csv"):
            found.setdefault(row.series_uid, []).append(row)
        return found

    @cached_property
    def _candidates(self) -> tables.CandidateTable | None:
        there = [self._folder / name for name in _CANDIDATE_TABLES if (self._folder / name).is_file()]
        return tables.read_candidates(there[0]) if there else None

    @cached_property
    def _patients(self) -> Mapping[str, tuple[str, str, bool]]:
        """(patient, manufacturer, whether the patient is known) by scan."""
        path = self._folder / "patients.csv"
        if not path.is_file():
            return {}
        columns = read_columns(path, {"seriesuid": str}, optional={"patient": str, "manufacturer": str})
        uids = text(columns["seriesuid"])
        is_known = "patient" in columns or self.one_scan_a_patient
        patients = text(columns["patient"]) if "patient" in columns else uids
        if "" in patients:
            raise BadTable(f"{path}: scan {uids[patients.index('')]} has no patient; give each one an id")
        makers = text(columns["manufacturer"]) if "manufacturer" in columns else [""] * len(uids)
        if absent := [uid for uid in self._headers if uid not in set(uids)]:
            raise BadTable(f"{path}: no row for scan {absent[0]} ({len(absent)} such scans); name every scan's patient")
        return {u: (p, maker.upper(), is_known) for u, p, maker in zip(uids, patients, makers, strict=True)}


def _fold(header: Path) -> int | None:
    """Of subset0 … subset9, which one; None for a scan that lies beside them."""
    name = header.parent.name
    return int(name.removeprefix("subset")) if name in {f"subset{k}" for k in FOLDS} else None


def _thinned(rows: list[tables.CandidateRow], negatives: int | None, *, seed: int) -> list[tables.CandidateRow]:
    """The rows of one scan with at most `negatives` of class 0, in the order they had."""
    of_class_0 = [i for i, row in enumerate(rows) if row.label == 0]
    if negatives is None or len(of_class_0) <= negatives:
        return rows
    address = hashlib.sha256(f"{seed}/{rows[0].series_uid}".encode()).digest()
    drawn = np.random.default_rng(int.from_bytes(address[:8], "big")).permutation(of_class_0)
    dropped = set(drawn[negatives:].tolist())
    return [row for i, row in enumerate(rows) if i not in dropped]


def _diameter_at(row: tables.CandidateRow, nodules: Sequence[tables.Annotation]) -> float | None:
    """The diameter of the nodule that a positive candidate hits: LUNA16's rule, nearer than its radius."""
    if row.label == 0:
        return None
    hits = [(math.dist(n.centre_xyz_mm, row.centre_xyz_mm), n.diameter_mm) for n in nodules]
    return min((hit for hit in hits if hit[0] < hit[1] / 2), default=(0.0, None))[1]
