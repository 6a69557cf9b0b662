"""How one data set is shared out in a simulation: the `partition` group meets the federation's hospitals."""

from typing import Any

from app.config import Config, ConfigError
from data.partition import ByScanner, BySize, Dirichlet, Partition, Shares


def partition_of(config: Config) -> Partition:
    """The partition that a configuration asks for, over the hospitals of its federation.

    Raises:
        ConfigError: an unknown kind, or a hospital without the fact that this kind needs.
    """
    kind, hospitals, seed = config["partition"]["kind"], config["federation"]["hospitals"], config["seed"] or 0
    if kind == "shares":
        return Shares({name: float(_fact(hospitals, name, "share", kind)) for name in hospitals}, seed)
    if kind == "by_scanner":
        return ByScanner({str(_fact(hospitals, name, "scanner", kind)): name for name in hospitals})
    if kind == "dirichlet":
        alpha, fewest = float(config["partition"]["alpha"]), int(config["partition"]["fewest"])
        return Dirichlet(tuple(hospitals), alpha, seed, fewest)
    if kind == "by_size":
        return BySize(tuple(hospitals), float(config["partition"]["ratio"]), seed)
    raise ConfigError(f"partition.kind={kind}: there are shares, by_size, by_scanner and dirichlet")


def _fact(hospitals: Config, name: str, fact: str, kind: str) -> Any:
    facts = hospitals[name] or {}
    if fact not in facts:
        raise ConfigError(f"partition={kind} needs federation.hospitals.{name}.{fact}")
    return facts[fact]
