"""A hospital opened for a run: settings, patients divided, memory. Opened once a process, then remembered."""

import contextlib
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from flwr.app import Context
from torch import nn

from app.config import Config, build, compose, from_line
from app.fingerprint import code_hash, config_hash
from app.privacy.policy import check_accepted, check_enough, check_owned
from app.privacy.refusals import check_private
from app.privacy.terms import Terms, terms_of
from app.privacy.trainable import check_trainable
from app.rounds.legs import CENTRAL
from app.site.directory import open_site
from app.site.memory import Memory
from app.site.shield import Declined, discreet, logbook
from app.site.site import Parts, Site, divide
from app.training.fit import Training
from data.augment import Augment
from data.dataset import Crops, joined
from strategies import Federated
from strategies.types import Plan


@dataclass(frozen=True)
class Place:
    """One site, or in central mode all of them as one."""

    config: Config
    name: str
    sites: tuple[Site, ...]
    parts: Parts

    @property
    def patients(self) -> int:
        """All patients, whatever they are for."""
        return sum(len(set(crops.patients)) for crops in (self.parts.train, self.parts.validation, self.parts.test))

    @cached_property
    def strategy(self) -> Federated:
        """The run's nine parts, as this hospital builds them."""
        made: Federated = self._part("strategy")
        return made

    @cached_property
    def training(self) -> Training:
        """The settings of local training."""
        made: Training = self._part("training")
        return made

    @cached_property
    def augment(self) -> Augment:
        """What is done to training crops."""
        made: Augment = self._part("augment")
        return made

    def network(self) -> nn.Module:
        """A model of its own for whoever asks; its tensors are to be set."""
        made: nn.Module = copy.deepcopy(self._part("model"))
        return made

    def _part(self, name: str) -> Any:
        return _built(json.dumps(self.config[name], sort_keys=True))

    @cached_property
    def terms(self) -> Terms | None:
        """What private training costs here; None where it is not private."""
        return terms_of(self.config)

    @property
    def threads(self) -> int | None:
        """CPU threads of training and scoring."""
        return self.training.threads

    def memory(self, plan: Plan) -> Memory:
        """What this hospital remembers of the plan's leg."""
        return Memory(self.sites[0].state_dir / "runs" / plan.run / (plan.leg or "all") / self.name)


@dataclass(frozen=True)
class Opening:
    """What a visit opens, and what is remembered of it."""

    run: str
    overrides: str
    hospital: str
    fold: int
    seed: int
    site_file: str

    @classmethod
    def of(cls, context: Context, plan: Plan) -> "Opening":
        """The opening that a visit with this plan begins with."""
        return cls(plan.run, _overrides(context), plan.hospital, plan.fold, plan.seed, _site_file(context))

    def hold(self) -> None:
        """Open it here and now, so that processes which are forked from this one find it open.

        Raises ConfigError, DataError.
        """
        check_trainable(_open(self.overrides, self.hospital, self.fold, self.seed, self.site_file).config)


def forget() -> None:
    """Close everything that is remembered: the next visit reads configuration, headers and labels again."""
    for remembered in (composed, _built, _open, _opened, _site):
        remembered.cache_clear()


@contextlib.contextmanager
def visit(context: Context, plan: Plan) -> Iterator[Place]:
    """Open the hospital that the plan names, if this node may play it and runs what the server runs.

    Raises:
        Declined: other code or another configuration than the server's; a limit of the hospital's policy; where
            training is private, anything else that went wrong.
        ConfigError, DataError: the hospital cannot be opened. Its own log has the words.
    """
    config = configured(context, plan)
    terms = terms_of(config)
    with discreet(is_private=terms is not None):
        check_division(terms, plan)
        place = _open(_overrides(context), plan.hospital, plan.fold, plan.seed, _site_file(context))
        with logbook(place.name, place.sites[0].state_dir):
            check_policies(place)
            yield place


def configured(context: Context, plan: Plan) -> Config:
    """The run's settings, as this node composes them. Raises Declined where they or the code are not the server's."""
    config = composed(_overrides(context))
    check_fingerprint(plan, config)
    return config


def site_of(context: Context, plan: Plan) -> Site:
    """The hospital that the plan names, if this node may play it; no scan is opened. Raises ConfigError, DataError."""
    return _site(_overrides(context), plan.hospital, _site_file(context))


def check_policies(place: Place) -> None:
    """Refuse what the hospital's own file does not accept, and what would leave beside what is paid for.

    Raises:
        Declined: a limit of the policy; private training by patients whom the data do not tell apart.
        ConfigError: a private run with settings that read patients' data elsewhere, or a model or parts that do not
            keep one patient's data to one clipped gradient.
    """
    check_private(place.config)
    check_trainable(place.config)
    check_owned(place.terms, place.parts.train.refs)
    for site in place.sites:
        check_accepted(site.policy, place.strategy.privacy.unit, place.terms)
        check_enough(site.policy, len(set(place.parts.train.patients)))


def check_division(terms: Terms | None, plan: Plan) -> None:
    """Refuse to train privately on another division than the one that the ledger's events speak of.

    Of training and test patients only the dearer counts, since nobody is both; with a fold everybody is, in turn.
    """
    if terms is not None and plan.fold >= 0:
        raise Declined(
            "policy-fold", f"fold {plan.fold} of a private run: patients would train in one and test in another"
        )


def check_fingerprint(plan: Plan, config: Config) -> None:
    """Refuse a plan of other code or another configuration, naming both hashes."""
    ours = (code_hash(), config_hash(config))
    for what, theirs, own in zip(("code", "configuration"), (plan.code, plan.config), ours, strict=True):
        if theirs != own:
            raise Declined(f"other-{what}-{own}", f"the server runs {what} {theirs}, this hospital {own}")


def _overrides(context: Context) -> str:
    return str(context.run_config.get("overrides", ""))


def _site_file(context: Context) -> str:
    return str(context.node_config.get("site", ""))


@lru_cache(maxsize=8)
def composed(overrides: str) -> Config:
    """The settings of a run's line of overrides. Raises ConfigError."""
    return compose(from_line(overrides))


@lru_cache(maxsize=8)
def _built(settings: str) -> Any:
    """Hospitals of one process have the same settings. To build a network takes ten times as long as to copy it."""
    return build(json.loads(settings))


@lru_cache(maxsize=64)
def _open(overrides: str, name: str, fold: int, seed: int, site_file: str) -> Place:
    config = composed(overrides)
    members = tuple(config["federation"]["hospitals"]) if name == CENTRAL else (name,)
    opened = [_opened(overrides, member, site_file) for member in members]
    parts = [divide(crops, config["split"], fold=fold, seed=seed) for _, crops in opened]
    pooled = Parts(
        train=joined([part.train for part in parts]),
        validation=joined([part.validation for part in parts]),
        test=joined([part.test for part in parts]),
    )
    return Place(config, name, tuple(site for site, _ in opened), pooled)


@lru_cache(maxsize=64)
def _opened(overrides: str, name: str, site_file: str) -> tuple[Site, Crops]:
    """The memory maps of the cache."""
    site = _site(overrides, name, site_file)
    return site, site.crops(composed(overrides))


@lru_cache(maxsize=64)
def _site(overrides: str, name: str, site_file: str) -> Site:
    """Its source remembers headers and labels."""
    return open_site(composed(overrides), name, site_file=site_file)
