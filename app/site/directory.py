"""Hospital name → site, whatever the run's configuration says about where hospitals are.

First match wins:
1. the node's own `site=FILE` (deployment: nothing of the server's counts)
2. `federation.hospitals.NAME.site=FILE`, or `federation.sites=DIR` with DIR/NAME/site.yaml
3. `source=synthetic`: the cohort's DIR/NAME/site.yaml, written first if need be
4. `federation.hospitals.NAME.source={…}`: a source of its own
5. one data set divided by `partition`; caches are shared, states lie under FEDVOX_HOME/sites/
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.config import Config, ConfigError, build
from app.home import home
from app.site.cohort import SyntheticCohort, is_cohort
from app.site.sharing_out import partition_of
from app.site.site import Site
from app.site.site_file import SiteFile, ledger_key, read_site_file
from data.partition import hospitals_of
from data.sources import Source


def open_site(config: Config, name: str, *, site_file: str = "") -> Site:
    """The hospital `name`; `site_file` is the node's own and names the only hospital it will play.

    Raises:
        ConfigError: no such hospital, or its file or settings cannot be used.
        DataError: its data cannot be used.
    """
    if site_file:
        file = read_site_file(Path(site_file))
        # On a machine of its own the hospital says where it computes; what the coordinator's device is matters not.
        return _from_file(file, config, expected=name, device=file.device)
    facts = _facts(config, name)
    if (path := _file_of(config, name, facts)) is not None:
        return _from_file(read_site_file(path), config, expected=name)
    if source := facts.get("source"):
        return _simulated(config, name, build(source), source)
    return _simulated(config, name, _share(config, name), config["source"])


def cohort(config: Config) -> SyntheticCohort | None:
    """The synthetic cohort that a configuration trains on; None where it trains on other data."""
    return build(config["source"]) if config["federation"]["sites"] is None and is_cohort(config["source"]) else None


def _facts(config: Config, name: str) -> Mapping[str, Any]:
    hospitals = config["federation"]["hospitals"]
    if name not in hospitals:
        raise ConfigError(f"no hospital {name!r} in this federation; there are: {', '.join(hospitals)}")
    return hospitals[name] or {}


def _file_of(config: Config, name: str, facts: Mapping[str, Any]) -> Path | None:
    if facts.get("site"):
        return Path(facts["site"])
    if config["federation"]["sites"]:
        return Path(config["federation"]["sites"]) / name / "site.yaml"
    if not facts.get("source") and (synthetic := cohort(config)) is not None:
        return synthetic.folder(config["federation"]["hospitals"]) / name / "site.yaml"
    return None


def _from_file(file: SiteFile, config: Config, *, expected: str, device: str | None = None) -> Site:
    if file.name != expected:
        raise ConfigError(f"this node is hospital {file.name!r}, not {expected!r}")
    wished = file.device if config["device"] == "auto" else config["device"]
    return Site(
        name=file.name,
        source=build(file.source),
        cache_dir=file.cache_dir,
        state_dir=file.state_dir,
        device=device or wished,
        policy=file.policy,
        data_age_months=file.data_age_months,
        ledger_key=file.ledger_key,
        cache_gb=file.cache_gb,
        keep_runs=file.keep_runs,
    )


def _share(config: Config, name: str) -> Source:
    needed = {key: config[key] for key in ("source", "partition", "federation", "seed")}
    shares = _shares(json.dumps(needed, sort_keys=True))
    if name not in shares:
        raise ConfigError(f"the data hold nothing for hospital {name!r}; they were divided among {', '.join(shares)}")
    return shares[name]


@lru_cache(maxsize=4)
def _shares(needed: str) -> Mapping[str, Source]:
    """The data set divided; remembered, since every hospital of a simulation asks."""
    config = json.loads(needed)
    return hospitals_of(build(config["source"]), partition_of(config))


def _simulated(config: Config, name: str, source: Source, node: Mapping[str, Any]) -> Site:
    key = hashlib.sha256(json.dumps([dict(node), config["federation"]["name"]], sort_keys=True).encode()).hexdigest()
    folder = home() / "sites" / f"{config['federation']['name']}-{key[:12]}"
    return Site(
        name=name,
        source=source,
        cache_dir=folder / "cache",
        state_dir=folder / name / "state",
        device=config["device"],
        policy={},
        data_age_months=None,
        ledger_key=ledger_key(folder / name / "state", name),
    )
