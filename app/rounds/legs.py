"""A run trains one model, or several one after the other: a leg each.

| mode        | folds | legs                                                  |
|-------------|-------|-------------------------------------------------------|
| federated   | no    | one: all hospitals train, all are scored              |
| central     | no    | one: the pooled data train, all hospitals are scored  |
| local_only  | no    | one a hospital: it trains, all are scored             |
| any of them | k     | the same, once a fold                                 |
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.config import Config, ConfigError

CENTRAL = "central"
"""Name of the pooled hospital in central mode; no hospital may be called so."""


@dataclass(frozen=True)
class Leg:
    """One model's training: who trains it, who scores it, which fold is held out."""

    name: str
    """"" where the run has one leg only."""
    fold: int
    """-1 where patients are split by keyed hash."""
    train: tuple[str, ...]
    score: tuple[str, ...]


def legs(config: Config) -> tuple[Leg, ...]:
    """The legs of a run, in order.

    Raises:
        ConfigError: an unknown mode, or a fold that does not exist.
    """
    hospitals = tuple(config["federation"]["hospitals"])
    teams = _teams(config["federation"]["mode"], hospitals)
    made = [
        Leg(_name(team, fold, many_teams=len(teams) > 1), fold, team, hospitals)
        for team in teams
        for fold in held_out_folds(config["split"])
    ]
    return tuple(made) if len(made) > 1 else (Leg("", made[0].fold, made[0].train, hospitals),)


def _teams(mode: str, hospitals: Sequence[str]) -> list[tuple[str, ...]]:
    if CENTRAL in hospitals:
        raise ConfigError(
            f"federation.hospitals: {CENTRAL!r} is the name of the pooled data; call the hospital otherwise"
        )
    if mode == "federated":
        return [tuple(hospitals)]
    if mode == "central":
        return [(CENTRAL,)]
    if mode == "local_only":
        return [(name,) for name in hospitals]
    raise ConfigError(f"federation.mode={mode}: one of federated, central, local_only is needed")


def held_out_folds(split: Config) -> list[int]:
    """The folds that are tested in turn; -1 stands for patients split by keyed hash."""
    folds, fold = split["folds"], split["fold"]
    if not folds:
        return [-1]
    if fold is None:
        return list(range(folds))
    if not 0 <= fold < folds:
        raise ConfigError(f"split.fold={fold}: with split.folds={folds} it is one of 0 … {folds - 1}")
    return [fold]


def _name(team: Sequence[str], fold: int, *, many_teams: bool) -> str:
    parts = [team[0]] if many_teams else []
    return "-".join([*parts, *([f"fold{fold}"] if fold >= 0 else [])])
