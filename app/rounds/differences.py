"""How far a hospital's numbers may lie from what is usual among all, and what is said of one that lies further."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.rounds.agreement import Agreement, agreements
from data.errors import BadSetting
from data.statistics import SiteStatistics
from data.statistics.quantities import QUANTITIES


@dataclass(frozen=True)
class Remark:
    """Something about a hospital's data, in words that may be shown."""

    hospital: str
    quantity: str
    text: str
    stops: bool
    """The run must not start with it."""


@dataclass(frozen=True)
class Differences:
    """Tolerances between one hospital and the median of all; of two, between one and the other.

    Args:
        tolerances: quantity → largest difference.
        histogram: largest distance of brightness histograms from the nearest other hospital's (0 … 1: the mean way that
            brightness would have to be moved).
        opposite, silent: agreement of labels below which they are swapped, or tell nothing (`agreement`).
        evidence: standard errors by which the others must tell their classes apart.
        margin: standard errors by which a hospital must be certain of its own.
    """

    tolerances: Mapping[str, float]
    histogram: float
    opposite: float
    silent: float
    evidence: float
    margin: float

    def __post_init__(self) -> None:
        if unknown := [name for name in self.tolerances if name not in QUANTITIES]:
            raise BadSetting(f"comparison.differences: {unknown[0]!r} is no quantity; see data.statistics.quantities")

    def remarks(self, sites: Mapping[str, SiteStatistics]) -> list[Remark]:
        """What sets a hospital apart from the others; nothing where there is one only."""
        labels = agreements(sites)
        return [remark for name in sites for remark in self._of(name, sites, labels.get(name))]

    def _of(self, name: str, sites: Mapping[str, SiteStatistics], labels: Agreement | None) -> Iterator[Remark]:
        others = [site for other, site in sites.items() if other != name]
        yield from self._far_numbers(name, sites[name], others)
        yield from self._far_histograms(name, sites[name], others)
        if labels is not None and labels.evidence >= self.evidence:
            yield from self._strange_labels(name, labels)

    def _far_numbers(self, name: str, own: SiteStatistics, others: Sequence[SiteStatistics]) -> Iterator[Remark]:
        for quantity, tolerance in self.tolerances.items():
            known = [other.numbers[quantity] for other in others if quantity in other.numbers]
            if quantity not in own.numbers or not known:
                continue
            value, words = own.numbers[quantity], QUANTITIES[quantity]
            # Of three, the median of two would lie half-way to the one that is wrong.
            usual = statistics.median(known if len(known) == 1 else [*known, value])
            if abs(value - usual) > tolerance:
                unit = f" {words.unit}" if words.unit else ""
                text = f"{words.words} is {value:.4g}{unit}, usual here is {usual:.4g}{unit}: {words.fault}"
                yield Remark(name, quantity, text, stops=True)

    def _far_histograms(self, name: str, own: SiteStatistics, others: Sequence[SiteStatistics]) -> Iterator[Remark]:
        for kind, shares in own.histograms.items():
            apart = [_moved(shares, other.histograms[kind]) for other in others if kind in other.histograms]
            if apart and min(apart) > self.histogram:
                text = (
                    f"brightness of {kind}s is {min(apart):.2f} of the window from the nearest other hospital's, at "
                    f"most {self.histogram:g} is usual: {QUANTITIES['crop_mean'].fault}"
                )
                yield Remark(name, f"{kind}_histogram", text, stops=True)

    def _strange_labels(self, name: str, labels: Agreement) -> Iterator[Remark]:
        certain = labels.value + self.margin * labels.error
        if labels.value < self.opposite and certain < 0:
            text = (
                f"labels agree with the other hospitals' by {labels.value:.2f} ± {labels.error:.2f} (1 is alike, -1 "
                "swapped): labels 0 and 1 are swapped, here or there; check the tables"
            )
            yield Remark(name, "labels", text, stops=True)
        elif labels.value < self.silent and certain < 0.5:
            text = (
                f"labels agree with the other hospitals' by {labels.value:.2f} ± {labels.error:.2f} (1 is alike): they "
                "mean something else here, or lie in other places; look at them (fedvox data check --sheet)"
            )
            yield Remark(name, "labels", text, stops=False)


def _moved(shares: Sequence[float], usual: Sequence[float]) -> float:
    """Earth mover's distance of two histograms, in widths of the whole scale."""
    return float(np.abs(np.cumsum(np.subtract(shares, usual))[:-1]).sum() / len(shares))
