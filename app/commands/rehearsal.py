"""Settings tried before a run begins, so that what does not fit is refused before a folder or a process exists."""

from collections.abc import Mapping

from app.config import Config, ConfigError, build
from app.metrics.baselines import check_baseline
from app.privacy.refusals import check_private
from app.privacy.trainable import check_trainable
from app.rounds.legs import legs
from app.rounds.pretrained import initial_model
from app.site.cohort import is_cohort
from app.site.sharing_out import partition_of
from app.training import device
from data.errors import PartitionError
from data.partition import split
from models.norm import tensor_kinds
from models.weights import Loaded
from strategies import Federated, checks

PARTS = ("model", "training", "augment", "preprocess", "stopping", "schedule", "engine")


def try_out(config: Config) -> Loaded | None:
    """Build every part once. Returns what `weights` brought, where it is set.

    Raises:
        ConfigError, DataError, StrategyError, WeightsError: what does not fit, and the remedy.
    """
    for group in PARTS:
        build(config[group])
    _check_plain(config)
    if config["federation"]["sites"] is None and not is_cohort(config["source"]):
        partition_of(config)
    check_private(config)
    strategy: Federated = build(config["strategy"])
    model, loaded = initial_model(config)
    kinds = tensor_kinds(model)
    _check_best(config, strategy, kinds)
    checks.check(strategy, kinds=kinds, hospitals=min(len(leg.train) for leg in legs(config)))
    check_trainable(config)
    return loaded


def _check_plain(config: Config) -> None:
    """What is read late otherwise: at the hospitals, or after the last round."""
    settings, hospitals = config["split"], len(config["federation"]["hospitals"])
    try:
        split((), key=settings["key"], test=settings["test"], validation=settings["validation"])
        if config["deploy"]["roster"] == "plan":
            device.choose(config["device"])
    except (PartitionError, device.DeviceError) as error:
        raise ConfigError(str(error)) from None
    if config["baseline"]:
        check_baseline(config["baseline"])
    if config["federation"]["mode"] == "federated" and config["quorum"] > hospitals:
        raise ConfigError(f"quorum={config['quorum']}: there are {hospitals} hospitals; write {hospitals} or less")


def _check_best(config: Config, strategy: Federated, kinds: Mapping[str, str]) -> None:
    """Refuse to go back to an earlier model where hospitals hold parts of their own, and only of the last rounds."""
    keeps_own = strategy.local.personal is not None or set(strategy.sharing.shared(kinds)) != set(kinds)
    if config["stopping"]["keep_best"] and keeps_own:
        raise ConfigError(
            "stopping.keep_best=true: hospitals keep tensors of their own here, of the last rounds alone, which an "
            "earlier model would not fit; use stopping.keep_best=false, or share all (strategy/sharing=all, no "
            "personal model)"
        )
