"""What can go wrong in the arithmetic of a federation.

StrategyError
├─ PartError        a part was given a setting that makes no sense        (at composition)
├─ Misfit           two parts, or a part and the model, do not fit        (at composition)
├─ RecordError      a message does not hold what it must                  (one hospital's round)
├─ WireError        an encoded update cannot be decoded                   (one hospital's round)
├─ Misstated        an update is not of the norm that its report states   (one hospital's round)
├─ MissingFact      a weighting needs a fact that the report lacks        (one hospital's round)
├─ BadFactor        a weighting's factor is no finite number ≥ 0          (one hospital's round)
└─ NoWeight         all weights of a round are zero                       (the run)

`code` is stable and short: it is what crosses the network and stands in journals. The message is one line for people.
"""

from typing import ClassVar


class StrategyError(Exception):
    """Root of this package's errors."""

    code: ClassVar[str] = "strategy"


class PartError(StrategyError, ValueError):
    """A part was given a setting that makes no sense."""

    code = "part"


class Misfit(StrategyError, ValueError):
    """Two parts, or a part and the model, do not fit together."""

    code = "misfit"


class RecordError(StrategyError, ValueError):
    """A message does not hold what it must."""

    code = "malformed"


class WireError(StrategyError, ValueError):
    """An encoded update cannot be decoded."""

    code = "undecodable"


class Misstated(StrategyError, ValueError):
    """An update is not of the norm that its report states; what was added of it was taken back."""

    code = "norm-misstated"


class MissingFact(StrategyError, ValueError):
    """A weighting needs a fact that a hospital's report lacks."""

    code = "no-weight-fact"


class BadFactor(StrategyError, ValueError):
    """A weighting gave a hospital a factor that is no finite number ≥ 0."""

    code = "bad-factor"


class NoWeight(StrategyError, ValueError):
    """All weights of a round are zero: there is nothing to average."""

    code = "no-weight"
