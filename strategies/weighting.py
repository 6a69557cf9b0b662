"""How much each hospital's update counts.

A part gives one reply's raw factor, from that reply's report alone, so that updates can be added up as they come; the
weights of a round are the factors divided by their sum over those who replied: w_k = f_k / Σ_j f_j.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from strategies.errors import MissingFact, PartError
from strategies.types import Report


class Weighting(Protocol):
    """One verb: a report's raw factor, ≥ 0."""

    @property
    def needs_score(self) -> bool:
        """Whether the plan must ask hospitals to score their own model."""

    def factor(self, report: Report, round: int) -> float:
        """The raw factor of a reply that is aggregated in `round`."""


@dataclass(frozen=True)
class Equal:
    """Every hospital counts the same: f_k = 1."""

    needs_score = False

    def factor(self, report: Report, round: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Size:
    """By amount of data: f_k = n_k, hence w_k = n_k / N.

    `unit`: what is counted, "patients" or "crops" (training samples). Patients are independent of each other, crops of
    one patient are not, so patients are the default.

    Source: McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data", alg. 1.
    """

    unit: Literal["patients", "crops"] = "patients"
    needs_score = False

    def __post_init__(self) -> None:
        if self.unit not in ("patients", "crops"):
            raise PartError(f"weighting size: unit is 'patients' or 'crops', got {self.unit!r}")

    def factor(self, report: Report, round: int) -> float:
        return float(report.patients if self.unit == "patients" else report.crops)


@dataclass(frozen=True)
class Quality:
    """By how good a hospital's own model is: f_k = max(score_k, floor), hence w_k = score_k / Σ score.

    The score is the AUC of the model after local training on the hospital's validation patients, in [0, 1].
    `floor`: the least a hospital counts as, however bad its score (0.5 is chance).
    `missing`: what a hospital without a score counts as (one class only, no validation patients); None refuses it.

    Source: quality-weighted averaging in this form is folklore; compare Deng et al. 2021, "AUCTION: Automated and
    quality-aware client selection framework for efficient federated learning".
    """

    floor: float = 0.0
    missing: float | None = None
    needs_score = True

    def __post_init__(self) -> None:
        for name, value in (("floor", self.floor), ("missing", self.missing)):
            if value is not None and not 0.0 <= value <= 1.0:
                raise PartError(f"weighting quality: {name} is an AUC in [0, 1], got {value}")

    def factor(self, report: Report, round: int) -> float:
        score = self.missing if report.score is None or math.isnan(report.score) else report.score
        if score is None:
            raise MissingFact(
                f"weighting quality: hospital {report.hospital!r} has no score in round {round} (got {report.score}); "
                "it needs validation patients of both classes, or set strategy.weighting.missing=0.5"
            )
        return max(score, self.floor)


@dataclass(frozen=True)
class Recency:
    """By age: f_k = e^(−λ·age).

    `unit` "rounds": age of the model that the update started from (0 for a reply in time, more for a late one).
    `unit` "months": age of the hospital's data, as the hospital states it. `rate` λ is per round or per month.

    Source: exponential discounting of stale updates, Xie et al. 2019, "Asynchronous federated optimization", § 5.
    """

    rate: float = 0.5
    unit: Literal["rounds", "months"] = "rounds"
    needs_score = False

    def __post_init__(self) -> None:
        if self.unit not in ("rounds", "months"):
            raise PartError(f"weighting recency: unit is 'rounds' or 'months', got {self.unit!r}")
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise PartError(f"weighting recency: rate λ is a finite number ≥ 0, got {self.rate}")

    def factor(self, report: Report, round: int) -> float:
        return math.exp(-self.rate * self._age(report, round))

    def _age(self, report: Report, round: int) -> float:
        age = round - report.round if self.unit == "rounds" else report.data_age_months
        if age is None or math.isnan(age):
            raise MissingFact(
                f"weighting recency: hospital {report.hospital!r} does not state the age of its data; "
                "add data_age_months to its site file, or set strategy.weighting.unit=rounds"
            )
        return max(0.0, age)


@dataclass(frozen=True)
class Product:
    """Several at once: f_k = Π_i f_k^(i), normalised once. Size × quality × recency is a list, not a class."""

    parts: Sequence[Weighting]

    def __post_init__(self) -> None:
        if not self.parts:
            raise PartError("weighting product: needs at least one part, got none")

    @property
    def needs_score(self) -> bool:
        return any(part.needs_score for part in self.parts)

    def factor(self, report: Report, round: int) -> float:
        return math.prod(part.factor(report, round) for part in self.parts)
