"""site.yaml, the hospital's own file: read, checked, faults named with their line.

name: north
source: {_target_: data.sources.DicomFolder, path: data}     # as in conf/source; paths are relative to this file
cache_dir: cache
cache_gb: 200                                                # the most it may hold; left out: what the disk has
state_dir: state
keep_runs: 3                                                 # memory and replies of so many runs stay in state_dir
device: auto
ledger_key: ../keys/north.key                                # outside of state_dir and of its backups
policy: {epsilon_cap: 8.0, delta: 1.0e-5, min_patients: 5, accepted: {}, approved_code: []}

In a deployment `policy` may hold two more lists (app.deploy.policy_check): `overrides`, the settings that a coordinator
may change, and `configurations`, hashes of the only ones that are answered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from app.config import PATH_KEYS, ConfigError

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "source": dict,
    "cache_dir": str,
    "cache_gb": (int, float),
    "state_dir": str,
    "keep_runs": int,
    "device": str,
    "policy": dict,
    "data_age_months": (int, float),
    "ledger_key": str,
}
DELTA = 1e-5
"""A hospital's δ where its own file names none: never the run's, which could choose how limits are read."""

KEEP_RUNS = 3
"""The run that goes on, and two that a coordinator may come back to; of 33 M parameters each keeps up to 800 MB."""

REQUIRED = ("name", "source", "cache_dir", "state_dir")
POLICY: Mapping[str, type | tuple[type, ...]] = {
    "epsilon_cap": (int, float),
    "delta": float,
    "min_patients": int,
    "accepted": dict,
    "approved_code": list,
    "overrides": list,
    "configurations": list,
}

RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "keep_runs": (lambda runs: runs >= 1, "a whole number of 1 or more"),
    "epsilon_cap": (lambda cap: cap >= 0, "a number of 0 or more"),
    "delta": (lambda delta: 0 < delta < 1, "a probability strictly between 0 and 1, below 1 / patients,"),
}
"""What a number must be beside a number: a cap of NaN is passed by nothing, and would limit nothing."""


@dataclass(frozen=True)
class SiteFile:
    """What a hospital wrote, with paths made absolute."""

    name: str
    source: dict[str, Any]
    cache_dir: Path
    state_dir: Path
    ledger_key: Path
    """Not in `state_dir`, so that a backup of the one does not hold the other; beside it where nothing else is said."""
    device: str = "auto"
    policy: Mapping[str, Any] = field(default_factory=dict)
    data_age_months: float | None = None
    cache_gb: float | None = None
    keep_runs: int = KEEP_RUNS


def own_delta(policy: Mapping[str, Any]) -> float:
    """The δ at which a hospital reads its limits."""
    return float(policy.get("delta", DELTA))


def lifetime_limits(policy: Mapping[str, Any], budget: Mapping[str, Any]) -> tuple[float, float]:
    """Cap of all runs together, and its δ: the hospital's own, or a configuration's `budget` without a policy."""
    limits = {**budget, **({"delta": own_delta(policy), **policy} if policy else {})}
    return float(limits["epsilon_cap"]), float(limits["delta"])


def read_site_file(path: Path) -> SiteFile:
    """Read and check a site.yaml.

    Raises:
        ConfigError: the file is missing, is no YAML, or a field is missing, unknown or of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        plain = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}); `fedvox data synth DIR` writes examples") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path} holds no fields; needed are {', '.join(REQUIRED)}")
    _check_fields(path, node, plain, FIELDS, "")
    if missing := [name for name in REQUIRED if name not in plain]:
        raise ConfigError(f"{path}: {', '.join(missing)} is missing")
    file = _site_file(path.parent.absolute(), plain)
    if file.ledger_key.resolve().is_relative_to(file.state_dir.resolve()):
        raise ConfigError(
            f"{path}: ledger_key {file.ledger_key} lies in state_dir, where whoever copies the ledger has its key too; "
            "put it elsewhere"
        )
    return file


def ledger_key(state_dir: Path, name: str) -> Path:
    """Where a hospital's ledger has its key if its file does not say."""
    return state_dir.parent / f"{name}.ledger-key"


def _check_fields(path: Path, node: yaml.MappingNode, plain: Any, allowed: Mapping[str, Any], inside: str) -> None:
    for key_node, value_node in node.value:
        where, key = f"{path}:{key_node.start_mark.line + 1}", key_node.value
        if key not in allowed:
            raise ConfigError(f"{where}: unknown field {inside + key!r}; known are {', '.join(allowed)}")
        if not isinstance(plain[key], allowed[key]) or isinstance(plain[key], bool):
            wanted = allowed[key] if isinstance(allowed[key], type) else allowed[key][-1]
            raise ConfigError(f"{where}: {inside}{key} is {plain[key]!r}; a {wanted.__name__} is needed")
        is_fine, needed = RANGES.get(key, (lambda _: True, ""))
        if not is_fine(plain[key]):
            raise ConfigError(f"{where}: {inside}{key} is {plain[key]!r}; {needed} is needed")
        if key == "policy" and isinstance(value_node, yaml.MappingNode):
            _check_fields(path, value_node, plain[key], POLICY, "policy.")


def _site_file(folder: Path, plain: dict[str, Any]) -> SiteFile:
    source = {k: str(folder / v) if k in PATH_KEYS and isinstance(v, str) else v for k, v in plain["source"].items()}
    state_dir = folder / plain["state_dir"]
    return SiteFile(
        name=plain["name"],
        source=source,
        cache_dir=folder / plain["cache_dir"],
        state_dir=state_dir,
        ledger_key=folder / plain["ledger_key"] if "ledger_key" in plain else ledger_key(state_dir, plain["name"]),
        device=plain.get("device", "auto"),
        policy=plain.get("policy", {}),
        data_age_months=plain.get("data_age_months"),
        cache_gb=plain.get("cache_gb"),
        keep_runs=plain.get("keep_runs", KEEP_RUNS),
    )
