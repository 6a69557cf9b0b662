"""A folder of DICOM series with a `labels.csv`: what a hospital exports.

Any tree below `path`: series are told apart by SeriesInstanceUID (0020,000E), not by folder or name. Files that are
not DICOM, and DICOM that is not CT, are left alone and logged.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.dicom.found import Stack
from data.dicom.headers import is_dicom, place_of, read_tags, series_tags
from data.dicom.series import read_series
from data.dicom.stack import stack
from data.errors import DataError, EmptySource, UnknownScan
from data.samples import Candidate, ScanRef
from data.sources.files import existing_folder, files_stamp
from data.sources.labels import read_labels
from data.volume import CtVolume

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Series:
    ref: ScanRef
    files: tuple[Path, ...]


@dataclass(frozen=True)
class DicomFolder:
    """CT series below `path`, labelled by `labels`.

    Args:
        path: the folder; series may lie anywhere below it.
        labels: CSV file of places (see `data.sources.labels`), relative to `path` or absolute; None for unlabelled
            scans.

    Raises:
        MissingFolder, EmptySource, BadTable
        MissingHeader: a file without SeriesInstanceUID or PatientID.
        UnknownScan: a label names a series that is not in the folder.
        UnreadableScan: a file that begins as DICOM and ends too soon.
    """

    path: str
    labels: str | None = "labels.csv"

    @property
    def resident(self) -> bool:
        return False

    def scans(self) -> list[ScanRef]:
        refs = [series.ref for series in self._series.values()]
        _ = self._labels  # a label of an unknown series is a fault of the folder, found before any scan is read
        return refs

    def read(self, ref: ScanRef) -> CtVolume:
        return read_series(self._of(ref).files)

    def candidates(self, ref: ScanRef) -> list[Candidate]:
        return list(self._labels.get(ref.uid, ()))

    def stamp(self, ref: ScanRef) -> str:
        return files_stamp(self._of(ref).files, below=self._folder)

    def survey(self) -> list[Stack]:
        """Every stack of slices below `path`, accepted or refused with its error, sorted by uid; headers alone.

        Raises MissingFolder.
        """
        found: dict[str, list[Path]] = {}
        stacks = []
        for file in _dicom_files(self._folder):
            try:
                tags = series_tags(read_tags(file), file=str(file))
            except DataError as error:
                stacks.append(Stack("", "", "", "", (file,), 1, error))
            else:
                found.setdefault(tags.series_uid, []).append(file)
        return sorted([*stacks, *(_stack(uid, files) for uid, files in found.items())], key=lambda s: s.uid)

    def _of(self, ref: ScanRef) -> _Series:
        if ref.uid not in self._series:
            raise UnknownScan(f"{self._folder}: no series {ref.uid} among {len(self._series)}")
        return self._series[ref.uid]

    @cached_property
    def _folder(self) -> Path:
        return existing_folder(self.path)

    @cached_property
    def _series(self) -> Mapping[str, _Series]:
        found: dict[str, list[Path]] = {}
        refs: dict[str, ScanRef] = {}
        for file in _dicom_files(self._folder):
            tags = series_tags(read_tags(file), file=str(file))
            if tags.modality not in ("CT", ""):
                _LOG.info("%s: Modality %s, not CT; left alone", file, tags.modality)
                continue
            found.setdefault(tags.series_uid, []).append(file)
            refs.setdefault(tags.series_uid, ScanRef(tags.series_uid, tags.patient, tags.manufacturer.upper()))
        if not found:
            raise EmptySource(f"{self._folder}: no CT series anywhere below; correct source.path or export scans to it")
        return {uid: _Series(refs[uid], tuple(found[uid])) for uid in sorted(found)}

    @cached_property
    def _labels(self) -> Mapping[str, list[Candidate]]:
        if self.labels is None:
            return {}
        path = self._folder / self.labels
        labels = read_labels(path)
        if unknown := [uid for uid in labels if uid not in self._series]:
            raise UnknownScan(
                f"{path}: names {len(unknown)} series that are not below {self._folder} (first: {unknown[0]}; "
                f"{len(self._series)} are there); correct series_uid or add the scans"
            )
        return labels


def _stack(uid: str, files: Sequence[Path]) -> Stack:
    headers = [read_tags(file) for file in files]
    tags = series_tags(headers[0], file=str(files[0]))
    words = (headers[0].get(name) for name in ("SeriesNumber", "SeriesDescription"))
    description = " ".join(str(word).strip() for word in words if word not in (None, ""))
    error = None
    try:
        stack([place_of(header, file=str(file)) for header, file in zip(headers, files, strict=True)])
    except DataError as fault:
        error = fault
    return Stack(uid, tags.patient, tags.manufacturer.upper(), description, tuple(files), len(files), error)


def _dicom_files(folder: Path) -> Iterator[Path]:
    """Files that begin as DICOM, in an order that does not depend on the file system."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            if file.is_file() and is_dicom(file):
                yield file
