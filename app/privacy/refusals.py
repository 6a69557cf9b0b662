"""What a configuration may not hold beside private training: whatever else depends on the patients' data.

Only fixed constants, noised releases and the unit itself may be read. What the nine parts alone can tell is refused by
`strategies.checks`; this table has what needs the rest of the configuration. Asked at composition, and again by every
hospital, which trusts nobody's composition but its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.config import Config, ConfigError, build
from app.privacy.terms import terms_of


@dataclass(frozen=True)
class Row:
    """One setting: when it would leak, and what to write instead."""

    holds: Callable[[Config], bool]
    reason: str


LEAST_BINS = 2
"""A threshold has two sides."""


def _has(config: Config, *keys: str) -> Any:
    node: Any = config
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _counts_crops(config: Config) -> bool:
    units = [_has(config, "strategy", "weighting", "unit")]
    units += [_has(part, "unit") for part in _has(config, "strategy", "weighting", "parts") or ()]
    return "crops" in units and _has(config, "strategy", "privacy", "unit") == "patient"


BY_SCORES: tuple[Row, ...] = (
    Row(
        lambda c: c["stopping"]["patience"] is not None or c["stopping"]["target"] is not None,
        "stopping by validation scores would release them every round; set stopping=never",
    ),
    Row(
        lambda c: bool(c["stopping"].get("keep_best")),
        "the best model is chosen by validation scores of every round; set stopping.keep_best=false",
    ),
)
"""Under `site`, too: which round's model is published would tell of scores that no noise covers."""

TABLE: tuple[Row, ...] = (
    Row(
        lambda c: c["training"]["class_balance"],
        "class weights are computed from the hospital's labels; set training.class_balance=false",
    ),
    Row(
        lambda c: c["training"].get("patience") is not None,
        "early stopping reads the losses of the hospital's own patients; set training.patience=null",
    ),
    *BY_SCORES,
    Row(
        lambda c: bool(c["split"]["folds"]) or bool(c["split"].get("official")),
        "in folds each patient trains and is tested in turn, and the ledger counts the dearer of the two; "
        "set split=keyed",
    ),
    Row(
        lambda c: c["federation"]["mode"] == "central",
        "data in one place have no hospital that could keep a ledger; set federation.mode=federated",
    ),
    Row(
        lambda c: c["baseline"] is not None,
        "a baseline's scores are a release of their own that nothing pays for; set baseline=null",
    ),
    Row(
        _counts_crops,
        "how many crops a patient has is that patient's data; set strategy.weighting.unit=patients",
    ),
    Row(
        lambda c: _has(c, "strategy", "local", "personal") is not None,
        "a hospital's own model is trained without noise, and its scores would leave; use strategy/local=plain or prox",
    ),
    Row(
        lambda c: c["budget"]["bins"] < LEAST_BINS or not c["budget"]["evaluation"] > 0,
        "budget: at least 2 bins and a share of evaluation above 0 are needed",
    ),
    Row(
        lambda c: not c["budget"]["epsilon_cap"] >= 0 or not 0 < c["budget"]["delta"] < 1,
        "budget: an epsilon_cap of 0 or more and a delta strictly between 0 and 1 are needed",
    ),
)


def check_private(config: Config) -> None:
    """Raise ConfigError with every reason why a run that claims an ε may not be configured so."""
    unit = build(config["strategy"]).privacy.unit
    rows = TABLE if terms_of(config) is not None else BY_SCORES if unit == "site" else ()
    if reasons := [row.reason for row in rows if row.holds(config)]:
        raise ConfigError(f"strategy.privacy.unit={unit}: {'; '.join(reasons)}")
