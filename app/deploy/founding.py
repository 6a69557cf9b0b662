"""The site.yaml of a new hospital, from flags or from one that there is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.deploy.errors import DeployError
from app.site.site_file import DELTA, read_site_file

SOURCES = {"dicom": "data.sources.DicomFolder", "luna16": "data.sources.Luna16", "cubes": "data.sources.Cubes"}

MIN_PATIENTS, EPSILON_CAP, DEVICE = 5, 8.0, "auto"
"""What a new file says until somebody at the hospital says otherwise."""


@dataclass(frozen=True)
class Founding:
    """What `fedvox site init` was told."""

    name: str
    data: Path
    kind: str = "dicom"
    labels: Path | None = None
    device: str = DEVICE
    epsilon_cap: float = EPSILON_CAP

    def settings(self) -> dict[str, Any]:
        """The content of site.yaml; everything of the hospital's own lies beside it."""
        if self.kind not in SOURCES:
            raise DeployError(f"data of kind {self.kind!r} are not known; there are: {', '.join(SOURCES)}")
        if not self.data.expanduser().exists():
            raise DeployError(f"there are no data in {self.data}; give the folder or file that holds them")
        source = {"_target_": SOURCES[self.kind], "path": _absolute(self.data)}
        if self.labels is not None:
            if self.kind != "dicom":
                raise DeployError(f"--labels goes with DICOM; {self.kind} brings its own")
            source["labels"] = _absolute(self.labels)
        return {
            "name": self.name,
            "source": source,
            "cache_dir": "cache",
            "state_dir": "state",
            "ledger_key": "keys/ledger.key",
            "device": self.device,
            "policy": {
                "epsilon_cap": self.epsilon_cap,
                "delta": DELTA,
                "min_patients": MIN_PATIENTS,
                "accepted": {},
                "approved_code": [],
            },
        }


def taken_over(path: Path) -> dict[str, Any]:
    """The content of a site.yaml elsewhere, with its paths made absolute: its data, cache, state and ledger stay.

    Raises ConfigError where it cannot be used.
    """
    file = read_site_file(path.expanduser().absolute())
    settings: dict[str, Any] = {
        "name": file.name,
        "source": file.source,
        "cache_dir": str(file.cache_dir),
        "state_dir": str(file.state_dir),
        "ledger_key": str(file.ledger_key),
        "device": file.device,
        "policy": dict(file.policy),
    }
    maybe = {"data_age_months": file.data_age_months, "cache_gb": file.cache_gb}
    return settings | {key: value for key, value in maybe.items() if value is not None}


def _absolute(path: Path) -> str:
    return str(path.expanduser().absolute())
