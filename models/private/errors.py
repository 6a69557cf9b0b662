"""What the private step refuses.

PrivateStepError          every refusal of this package
├─ ModelError             a layer or parameter that cannot be trained privately; named, with the remedy
├─ UnitsError             the batch is not cut into units as told
└─ KernelError            a result that cannot be right: nothing of this step may be released

`code` is short and constant: the only part that may leave a hospital.
"""

from dataclasses import dataclass

SHOWN = 3
"""Names a message lists before it counts the rest."""


class PrivateStepError(ValueError):
    """A private step that was not taken."""

    code = "private-step"


@dataclass(frozen=True)
class Fault:
    """One reason why a model is refused."""

    where: str
    """Name of the parameter, buffer or layer, as in `named_parameters()`."""
    reason: str
    remedy: str


class ModelError(PrivateStepError):
    """A model with parts that cannot be trained privately; `faults` has each."""

    code = "private-model"

    def __init__(self, *faults: Fault) -> None:
        alike: dict[str, list[str]] = {}
        for fault in faults:
            alike.setdefault(f"{fault.reason}; {fault.remedy}", []).append(fault.where)
        super().__init__("; also ".join(f"{_listed(names)}: {why}" for why, names in alike.items()))
        self.faults = faults


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


class UnitsError(PrivateStepError):
    """Counts of crops that do not cut the batch into units."""

    code = "private-units"


class KernelError(PrivateStepError):
    """A computed gradient that breaks a bound or differs from the reference."""

    code = "private-kernel"
