"""What is asked of one synthetic hospital, and the names that follow from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from data.errors import BadSetting
from data.synthetic.layouts import LAYOUTS
from data.synthetic.phantom import Frame
from data.synthetic.scanners import SCANNERS

VERSION = 2
"""Of what is drawn and how it is laid out. Raised when either changes: an older cohort must not pass for a new one."""

_OWN = ("patients", "scanner", "format")


@dataclass(frozen=True)
class Order:
    """One hospital to be written."""

    patients: int
    scanner: str = "GE"
    """See `scanners.SCANNERS`."""
    format: str = "dicom"
    """See `layouts.LAYOUTS`."""
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise BadSetting(f"{self.patients} patients; a hospital has at least one")
        for what, got, known in (("scanner", self.scanner, SCANNERS), ("format", self.format, LAYOUTS)):
            if got not in known:
                raise BadSetting(f"unknown {what} {got!r}; known are {', '.join(known)}")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Order":
        """From plain settings: this class's fields, and those of `Frame`, in one mapping.

        Raises:
            BadSetting: a field that neither has, or a value out of range.
        """
        known = (*_OWN, *(field.name for field in fields(Frame)))
        if unknown := sorted(set(facts) - set(known)):
            raise BadSetting(f"unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
        if "patients" not in facts:
            raise BadSetting("patients is missing; say how many the hospital has")
        frame = Frame(**{name: value for name, value in facts.items() if name not in _OWN})
        return cls(frame=frame, **{name: value for name, value in facts.items() if name in _OWN})

    def fingerprint(self, name: str, seed: int) -> str:
        """Of everything that decides a hospital's scans."""
        return self._digest(name, seed, patients=self.patients)

    def key(self, name: str, seed: int, number: int) -> str:
        """What the UIDs of one patient derive from; as the patient, it does not depend on how many others there are."""
        return f"{self._digest(name, seed, patients=0)}/{number}"

    def _digest(self, name: str, seed: int, *, patients: int) -> str:
        settings = {**asdict(self), "patients": patients, "version": VERSION, "seed": seed, "name": name}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
