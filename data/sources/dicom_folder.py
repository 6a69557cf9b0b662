"""A folder of DICOM series with labels: what a hospital exports.

Any tree below `path`: series are told apart by SeriesInstanceUID (0020,000E), and stacks inside a series by what they
show (`data.dicom.stacks`), not by folder or name. What is no scan by nature (scout views, reports, reformatted images)
is left out and listed by `survey`; a scan that should be one and is not stops the hospital, unless it says otherwise.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.dicom.series import volume_of
from data.dicom.survey import Progress, Stack, survey
from data.errors import BadSetting, EmptySource, NotAScan, ScanError, UnknownScan
from data.samples import Candidate, ScanRef
from data.sources.files import existing_folder, files_stamp
from data.sources.labels import read_labels
from data.volume import CtVolume

_LOG = logging.getLogger(__name__)

READER = 3
"""Raise with every change to the voxels that reading gives: caches follow it."""

ON_PROBLEM = ("refuse", "skip", "resample")
ACCEPTABLE = ("lossy-image", "derived-image", "missing-modality")


@dataclass(frozen=True)
class DicomFolder:
    """CT series below `path`, labelled by `labels`.

    Args:
        path: the folder; series may lie anywhere below it.
        labels: CSV file of places (see `data.sources.labels`), relative to `path` or absolute; None for unlabelled
            scans.
        on_problem: what becomes of a labelled series that cannot be used, and of files that cannot be read. `refuse`:
            an error. `skip`: left out and listed. `resample`: missing slices and uneven steps are interpolated, which
            its provenance says; what cannot be is left out and listed.
        accept: codes of what is taken knowingly: `lossy-image`, `derived-image` and `missing-modality` (taken for CT).

    Raises:
        BadSetting, MissingFolder, EmptySource, BadTable
        UnknownScan: a label names a series that is not in the folder.
        ScanError: where `on_problem` is refuse.
    """

    path: str
    labels: str | None = "labels.csv"
    on_problem: str = "refuse"
    accept: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.on_problem not in ON_PROBLEM:
            raise BadSetting(f"source.on_problem is {self.on_problem!r}; there are {', '.join(ON_PROBLEM)}")
        if unknown := sorted(set(self.accept) - set(ACCEPTABLE)):
            raise BadSetting(f"source.accept names {unknown[0]!r}; what can be accepted is {', '.join(ACCEPTABLE)}")

    @property
    def resident(self) -> bool:
        return False

    def scans(self) -> list[ScanRef]:
        """Usable stacks, labelled or not."""
        if not self._stacks:
            raise self._empty()
        _ = self._labels  # a label of an unknown series is a fault of the folder, found before any scan is read
        if faults := self._faults:
            if self.on_problem == "refuse":
                raise _refusal(faults)
            for stack in faults:
                _LOG.warning("left out (%s): %s", getattr(stack.error, "code", ""), stack.error)
        if not self._usable:
            raise self._empty()
        return [stack.ref for stack in self._usable.values()]

    def read(self, ref: ScanRef) -> CtVolume:
        stack = self.stack(ref)
        if stack.box is None:
            raise stack.error or UnknownScan(f"{self._folder}: {ref.uid} is no stack of slices")
        return volume_of(stack.planes, stack.box)

    def candidates(self, ref: ScanRef) -> list[Candidate]:
        return list(self._labels.get(ref.uid, ()))

    def stamp(self, ref: ScanRef) -> str:
        return f"{files_stamp(self.stack(ref).files, below=self._folder)}-{READER}"

    def survey(self, progress: Progress | None = None) -> list[Stack]:
        """Every stack of slices below `path`, usable or refused with its error, sorted by uid; headers alone.

        The folder is looked at once; `progress` is told only then. Raises MissingFolder.
        """
        if "_stacks" not in self.__dict__:
            self.__dict__["_stacks"] = self._look(progress)
        return list(self._stacks)

    def stack(self, ref: ScanRef) -> Stack:
        """The slices of a scan, as their headers describe them. Raises UnknownScan."""
        if ref.uid not in self._usable:
            raise UnknownScan(f"{self._folder}: no usable series {ref.uid} among {len(self._usable)}")
        return self._usable[ref.uid]

    @cached_property
    def _folder(self) -> Path:
        return existing_folder(self.path)

    @cached_property
    def _stacks(self) -> tuple[Stack, ...]:
        return self._look(None)

    def _look(self, progress: Progress | None) -> tuple[Stack, ...]:
        return survey(
            self._folder, accept=frozenset(self.accept), resample=self.on_problem == "resample", progress=progress
        )

    @cached_property
    def _usable(self) -> Mapping[str, Stack]:
        return {stack.uid: stack for stack in self._stacks if stack.error is None}

    @cached_property
    def _faults(self) -> tuple[Stack, ...]:
        """Refused stacks that matter: labelled, or of nobody knows which series; all scans where nothing is labelled.

        What is refused beside the usable stack of a series (its scout view, a stray slice) is listed by `survey` only.
        """
        whole = {stack.series_uid for stack in self._usable.values()}
        refused = [stack for stack in self._stacks if stack.error is not None and stack.uid not in whole]
        labelled = {uid.partition("#")[0] for uid in self._labels}
        return tuple(
            stack
            for stack in refused
            if stack.uid in labelled
            or (not isinstance(stack.error, NotAScan) and (self.labels is None or not stack.uid))
        )

    @cached_property
    def _labels(self) -> Mapping[str, list[Candidate]]:
        if self.labels is None:
            return {}
        path = self._folder / self.labels
        labels = read_labels(path)
        self._refuse_unknown(path, labels)
        return labels

    def _refuse_unknown(self, path: Path, labels: Mapping[str, object]) -> None:
        series = {stack.series_uid for stack in self._stacks}
        if unknown := [uid for uid in labels if uid not in self._usable and uid not in series]:
            raise UnknownScan(
                f"{path}: names {len(unknown)} series that are not below {self._folder} (first: {unknown[0]}; "
                f"{len(series)} are there); correct series_uid or add the scans"
            )
        split = [stack.uid for stack in self._usable.values() if stack.uid != stack.series_uid]
        if ambiguous := [uid for uid in labels if uid not in self._usable and f"{uid}#" in "\n".join(split)]:
            ways = [uid for uid in split if uid.startswith(f"{ambiguous[0]}#")]
            raise UnknownScan(
                f"{path}: series {ambiguous[0]} holds {len(ways)} scans, {' and '.join(map(repr, ways))}; "
                "name the one that is labelled"
            )

    def _empty(self) -> EmptySource:
        refused = [stack for stack in self._stacks if stack.error is not None]
        why = f" ({len(refused)} stacks are refused, first: {refused[0].error})" if refused else ""
        return EmptySource(
            f"{self._folder}: no usable CT series anywhere below{why}; correct source.path or export scans to it"
        )


def _refusal(faults: Sequence[Stack]) -> ScanError:
    """The first fault, as the hospital's: its class and code, and how many more there are."""
    first = faults[0].error
    kind = ScanError if first is None else type(first)
    more = f"; so are {len(faults) - 1} more" if len(faults) > 1 else ""
    return kind(f"{first} (refused{more}; `fedvox data check` lists all, on_problem: skip goes on without them)")
