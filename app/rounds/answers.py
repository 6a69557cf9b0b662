"""A hospital's answer to a scoring, looked at before figures are made of it.

What is wrong with one is that hospital's refusal, and no end of the run.
"""

from collections.abc import Iterator, Mapping
from logging import getLogger
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.config import Config
from app.metrics.classification import BINS
from app.privacy.terms import terms_of
from strategies.types import Evaluation, Refusal

log = getLogger(__name__)

FACTS = ("patients", "test_patients")
"""Counts that the summary's table is made of."""


def sound(replies: Mapping[str, Evaluation | Refusal], config: Config, split: str = "test") -> dict[str, Any]:
    """The replies, those that no figures can be made of as refusals ("malformed")."""
    return {name: _sound(name, reply, config, split) for name, reply in replies.items()}


def _sound(name: str, reply: Evaluation | Refusal, config: Config, split: str) -> Evaluation | Refusal:
    if isinstance(reply, Refusal) or not (wrong := list(_faults(reply, config, split))):
        return reply
    log.warning("the scores of hospital %s are not used: %s", name, ", ".join(wrong))
    return Refusal(name, int(reply.report.get("round", 0)), "malformed")


def _faults(reply: Evaluation, config: Config, split: str) -> Iterator[str]:
    yield from (fact for fact in FACTS if not _is_count(reply.report.get(fact)))
    if terms_of(config) is not None:
        bins, sd = config["budget"]["bins"], reply.report.get("noise_sd")
        yield from () if isinstance(sd, float) and 0 < sd < np.inf else ("noise_sd",)
        yield from (kind for kind in ("validation", "test") if not _is_noised(reply.arrays.get(kind), bins))
        return
    needed = ("validation",) if split == "validation" else ("validation", "test", "replicates")
    yield from (kind for kind in needed if kind not in reply.arrays)
    for kind, counts in reply.arrays.items():
        if not _is_histogram(counts, (config["replicates"],) if kind.endswith("replicates") else ()):
            yield kind


def _is_histogram(counts: NDArray[Any], leading: tuple[int, ...] = ()) -> bool:
    """Whether these are counts of scores, of negatives and of positives, in the fine bins."""
    whole = np.issubdtype(counts.dtype, np.integer)
    return whole and counts.shape == (*leading, 2, BINS) and bool((counts >= 0).all())


def _is_noised(counts: NDArray[Any] | None, bins: int) -> bool:
    return counts is not None and counts.shape == (2, bins) and bool(np.isfinite(counts).all())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0
