"""The update gate: what an answer must be before it may touch the model.

Fixed checks look at one answer alone: it answers this question (hospital, run, round, code), and its tensors are the
model's (names, shapes, dtypes), finite and not all zero. One check compares hospitals: an update whose size is far
above the others' is left out. Sizes are L2 norms divided by √steps, since a hospital with more data takes more steps.

The median is the lower of the two middle sizes where hospitals are even in number: of two, or of four with two
exploding, the mean of the middle ones would be set by what it is to judge. So half of the hospitals can stop a
training by sending next to nothing, which the refusals of every round show; they cannot spoil the model so.

The comparison catches broken hospitals (exploding training, wrong units) and crude attacks. A hospital that lies
about its steps passes it; against such, use a robust aggregate.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from strategies.errors import PartError
from strategies.types import Plan, Report, Tensor


@dataclass(frozen=True)
class Gate:
    """`norm_ratio`: how many times the median size an update may have; None compares nothing.

    Sizes are compared by powers of two, so that updates of like size share one running sum: an update is left out
    where the power of two below its size is above norm_ratio × median. It is caught for certain from twice that on.
    """

    norm_ratio: float | None = 4.0

    def __post_init__(self) -> None:
        if self.norm_ratio is not None and not self.norm_ratio >= 1:
            raise PartError(f"gate: norm_ratio is at least 1, or null to compare nothing; got {self.norm_ratio}")

    def size_class(self, norm: float, steps: int) -> int:
        """The power of two at or below an update's size; 0 for all where nothing is compared."""
        # A difference of logarithms: the quotient of a norm near the smallest number and many steps would be 0.
        return 0 if self.norm_ratio is None else math.floor(math.log2(norm) - math.log2(max(steps, 1)) / 2)

    def passes(self, size_class: int, sizes: Mapping[str, float]) -> bool:
        """Whether updates of this class are within norm_ratio of the lower median of all sizes."""
        return self.norm_ratio is None or 2.0**size_class <= self.norm_ratio * statistics.median_low(sizes.values())


def size(norm: float, steps: int) -> float:
    """What is compared between hospitals."""
    return norm / math.sqrt(max(steps, 1))


def mismatch(report: Report, plan: Plan) -> str:
    """A code where the report does not answer the plan; "" where it does."""
    differs = {
        "wrong-hospital": report.hospital != plan.hospital,
        "wrong-run": (report.run, report.leg) != (plan.run, plan.leg),
        "replayed": report.round != plan.round,
        "other-code": bool(report.code and plan.code) and report.code != plan.code,
    }
    return next((code for code, is_so in differs.items() if is_so), "")


def misshaped(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> str:
    """A code where the tensors are not those of `like`; "" where they are."""
    if tensors.keys() != like.keys():
        return "wrong-layers"
    if any(tensors[name].shape != t.shape for name, t in like.items()):
        return "wrong-shape"
    if any(tensors[name].dtype != t.dtype for name, t in like.items()):
        return "wrong-dtype"
    return ""


def unusable(norm: float) -> str:
    """A code where an update of this L2 norm is of no use; "" where it is."""
    if not math.isfinite(norm):
        return "not-finite"
    return "zero-update" if norm <= 0 else ""
