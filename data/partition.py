"""Who holds whom: patients into train, validation and test; patients into folds; a set over several hospitals.

The unit is always the patient: all scans and crops of one go one way. Every function depends on its arguments only.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import PartitionError
from data.samples import ScanRef
from data.sources.compose import Subset
from data.sources.source import Source

Purpose = Literal["train", "validation", "test"]


def split(patients: Iterable[str], *, key: str, test: float, validation: float) -> dict[str, Purpose]:
    """Purpose of each patient, by a keyed hash of the patient's id.

    A patient's place depends on the id and the key alone: patients who come or go move nobody else, and who does not
    know the key cannot tell from an id where it went (PRIVACY: membership is no release). Shares are therefore met in
    expectation, not exactly.

    Raises:
        PartitionError: shares that are negative or leave nothing for training.
    """
    if min(test, validation) < 0 or test + validation >= 1:
        raise PartitionError(
            f"test {test:g} and validation {validation:g} leave {1 - test - validation:g} of the patients to train on; "
            "both must be shares from 0, together below 1"
        )
    return {patient: _purpose(_uniform(key, patient), test, validation) for patient in patients}


def _uniform(key: str, patient: str) -> float:
    """A number in [0, 1) that only the key can foretell."""
    digest = hmac.new(key.encode(), patient.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _purpose(u: float, test: float, validation: float) -> Purpose:
    if u < test:
        return "test"
    return "validation" if u < test + validation else "train"


@dataclass(frozen=True)
class Case:
    """What a partition may look at: one labelled place."""

    patient: str
    label: int
    scanner: str = ""


def cases_of(source: Source) -> list[Case]:
    """One case a labelled place; a scan without any counts once, as label 0, so that no patient is lost."""
    return [
        Case(ref.patient, label, ref.scanner)
        for ref in source.scans()
        for label in ([c.label for c in source.candidates(ref)] or [0])
    ]


def folds(cases: Sequence[Case], *, n: int, seed: int) -> dict[str, int]:
    """Patients into `n` folds of like size and like mix of scanner and label.

    Greedy: patients with most crops first (chance, from `seed`, among equals), each to the fold that then is most even
    (smallest sum over strata of squared shares). Optimal it is not; within a patient or two of even it is.

    Raises:
        PartitionError: fewer patients than folds.
    """
    patients, counts_PS = _strata(cases)
    if not 2 <= n <= len(patients):
        raise PartitionError(f"{n} folds of {len(patients)} patients; between 2 and the number of patients is needed")
    order = np.random.default_rng(seed).permutation(len(patients))
    order = order[np.argsort(-counts_PS[order].sum(axis=1), kind="stable")]
    share_PS = counts_PS / counts_PS.sum(axis=0)
    # A last stratum, one a patient: folds are even in patients too, not in crops alone.
    share_PS = np.column_stack([share_PS, np.full(len(patients), 1 / len(patients))])
    held_FS = np.zeros((n, share_PS.shape[1]))
    fold_of = {}
    for p in order.tolist():
        cost_F = ((held_FS + share_PS[p]) ** 2 - held_FS**2).sum(axis=1)
        fold = int(np.argmin(cost_F))
        held_FS[fold] += share_PS[p]
        fold_of[patients[p]] = fold
    return fold_of


def official_folds(refs: Iterable[ScanRef]) -> dict[str, int]:
    """Patients into the folds that their data set comes with.

    Raises:
        PartitionError: a scan without one, or a patient in two.
    """
    fold_of: dict[str, int] = {}
    for ref in refs:
        if ref.fold is None:
            raise PartitionError(
                f"scan {ref.uid} is in no official fold (LUNA16's subset0 to subset9 have them); use split=folds"
            )
        if fold_of.setdefault(ref.patient, ref.fold) != ref.fold:
            raise PartitionError(
                f"the patient of scan {ref.uid} is in official folds {fold_of[ref.patient]} and {ref.fold}; "
                "use split=folds"
            )
    return fold_of


def _strata(cases: Sequence[Case]) -> tuple[list[str], NDArray[np.float64]]:
    """Patients, sorted, and how many crops of each (scanner, label) each has."""
    patients = sorted({case.patient for case in cases})
    strata = sorted({(case.scanner, case.label) for case in cases})
    row, column = {p: i for i, p in enumerate(patients)}, {s: i for i, s in enumerate(strata)}
    counts = np.zeros((len(patients), len(strata)))
    for case in cases:
        counts[row[case.patient], column[case.scanner, case.label]] += 1
    return patients, counts


class Partition(Protocol):
    def assign(self, cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
        """Hospital → its patients, sorted; every patient in exactly one."""


@dataclass(frozen=True)
class Shares:
    """Patients at random, hospitals of given sizes: {"a": 0.4, "b": 0.3, "c": 0.3}."""

    shares: Mapping[str, float]
    seed: int = 0

    def assign(self, cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
        patients = _shuffled(cases, self.seed)
        total = sum(self.shares.values())
        if not self.shares or min(self.shares.values()) <= 0:
            raise PartitionError(
                f"partition.shares is {dict(self.shares)}; a positive share for each hospital is needed"
            )
        ends = np.rint(np.cumsum(list(self.shares.values())) / total * len(patients)).astype(int)
        cut = np.split(np.array(patients, object), ends[:-1])
        return _complete({name: part.tolist() for name, part in zip(self.shares, cut, strict=True)})


@dataclass(frozen=True)
class BySize:
    """Patients at random, hospitals from large to small, each by the same factor smaller than the one before.

    Args:
        hospitals: their names, the largest first.
        ratio: of the largest to the smallest; 1 makes all alike.
    """

    hospitals: Sequence[str]
    ratio: float
    seed: int = 0

    def assign(self, cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
        if self.ratio < 1 or not self.hospitals:
            raise PartitionError(
                f"partition.ratio is {self.ratio:g}, over {len(self.hospitals)} hospitals; at least 1 is needed"
            )
        steps = max(len(self.hospitals) - 1, 1)
        shares = {name: self.ratio ** (-i / steps) for i, name in enumerate(self.hospitals)}
        return Shares(shares, self.seed).assign(cases)


@dataclass(frozen=True)
class ByScanner:
    """One hospital a manufacturer, as in Fed-LIDC-IDRI.

    Args:
        hospitals: manufacturer → hospital, in any case; the first word is enough (GE for GE MEDICAL SYSTEMS). None
            makes every manufacturer a hospital of its own name.

    A patient seen by two scanners goes to the one with most of his or her cases (the first by name among equals).
    """

    hospitals: Mapping[str, str] | None = None

    def assign(self, cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
        seen: dict[str, Counter[str]] = {}
        for case in cases:
            seen.setdefault(case.patient, Counter())[case.scanner] += 1
        held: dict[str, list[str]] = {}
        for patient, scanners in seen.items():
            scanner = min(scanners, key=lambda name: (-scanners[name], name))
            held.setdefault(self._hospital(scanner), []).append(patient)
        return _complete(dict(sorted(held.items())))

    def _hospital(self, scanner: str) -> str:
        if self.hospitals is None:
            return scanner.lower() or "unknown"
        for maker, hospital in self.hospitals.items():
            if scanner == maker.upper() or scanner.startswith(f"{maker.upper()} "):
                return hospital
        raise PartitionError(
            f"scanner {scanner!r} has no hospital (known: {', '.join(self.hospitals)}); name one in partition.hospitals"
        )


@dataclass(frozen=True)
class Dirichlet:
    """Label skew: for each label, hospitals' shares of its patients are drawn from a Dirichlet distribution.

    Args:
        hospitals: their names.
        alpha: concentration; 100 is nearly even, 0.1 gives hospitals of almost one label.
        fewest: patients that each hospital must get; all is drawn again, from the same stream, until it is so. Of
            ten, some are left to train on after a split.

    A patient with any positive case counts as positive. Raises PartitionError where no draw gives everyone `fewest`.

    Source: Hsu, Qi, Brown 2019 (arXiv:1909.06335), by patient; the least number, and ten, as in Li, Diao, Chen, He
    2022, "Federated learning on non-IID data silos" (NIID-Bench).
    """

    hospitals: Sequence[str]
    alpha: float
    seed: int = 0
    fewest: int = 10

    DRAWS = 1000

    def assign(self, cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
        if self.alpha <= 0 or not self.hospitals or self.fewest < 1:
            raise PartitionError(
                f"partition.alpha is {self.alpha}, over {len(self.hospitals)} hospitals, partition.fewest "
                f"{self.fewest}; all positive"
            )
        rng = np.random.default_rng(self.seed)
        label_of: dict[str, int] = {}
        for case in cases:
            label_of[case.patient] = max(case.label, label_of.get(case.patient, 0))
        by_label = [
            sorted(p for p, label in label_of.items() if label == wanted) for wanted in sorted({*label_of.values()})
        ]
        for _ in range(self.DRAWS):
            held = self._drawn(by_label, rng)
            if min(map(len, held.values())) >= self.fewest:
                return _complete(held)
        raise PartitionError(
            f"{len(label_of)} patients over {len(self.hospitals)} hospitals with alpha {self.alpha:g}: in {self.DRAWS} "
            f"draws some hospital had fewer than {self.fewest}; lower partition.fewest, raise partition.alpha, or use "
            "fewer hospitals"
        )

    def _drawn(self, by_label: Sequence[Sequence[str]], rng: np.random.Generator) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {name: [] for name in self.hospitals}
        for patients in by_label:
            shares = rng.dirichlet([self.alpha] * len(self.hospitals))
            ends = np.rint(np.cumsum(shares) * len(patients)).astype(int)
            parts = np.split(rng.permutation(np.array(patients, object)), ends[:-1])
            for name, part in zip(self.hospitals, parts, strict=True):
                held[name] += part.tolist()
        return held


def hospitals_of(source: Source, partition: Partition) -> dict[str, Subset]:
    """Share a source out: hospital → the scans of its patients."""
    shares = partition.assign(cases_of(source))
    return {name: Subset.of_patients(source, patients) for name, patients in shares.items()}


def _shuffled(cases: Sequence[Case], seed: int) -> list[str]:
    patients = sorted({case.patient for case in cases})
    return [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]


def _complete(held: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    if empty := [name for name, patients in held.items() if not patients]:
        raise PartitionError(f"hospital {empty[0]} would get no patient; use fewer hospitals or larger shares")
    return {name: tuple(sorted(patients)) for name, patients in held.items()}
