"""Which parts do not fit together, and why: the only knowledge of one part about another, as one table.

Asked at composition, before any hospital is. Some rows need the model's tensors or the number of hospitals, and are
passed over where these are not known yet.

Nothing here about SCAFFOLD with an adaptive local optimiser: SCAFFOLD brings its own plain SGD.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from strategies.aggregate.krum import Krum
from strategies.aggregate.robust import Median, TrimmedMean
from strategies.errors import Misfit
from strategies.local.prox import Prox
from strategies.parts import Parts
from strategies.privacy.adaptive import SiteAdaptive
from strategies.sharing import NORM_KINDS, FedBN

PRIVATE_FITS = ("patient", "sample")
"""Units protected inside the hospital, by DP-SGD: whatever else depends on its data must not leave."""

PRIVATE = (*PRIVATE_FITS, "site")


@dataclass(frozen=True)
class Setting:
    """What is known when parts are checked. Each further fact allows further checks."""

    parts: Parts
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Tensor → kind; empty where the model is not known yet."""
    hospitals: int | None = None


@dataclass(frozen=True)
class Row:
    """One incompatibility: its name, when it holds, and the sentence shown to the user."""

    name: str
    holds: Callable[[Setting], bool]
    reason: str


def _masked(s: Setting) -> bool:
    return not s.parts.exchange.shows_individual


def _robust(s: Setting) -> bool:
    return s.parts.aggregate.needs_individual


def _adaptive_mu(s: Setting) -> bool:
    local = s.parts.local
    return isinstance(local, Prox) and local.adaptive


def _norms(s: Setting) -> bool:
    return any(kind in NORM_KINDS for kind in s.kinds.values())


def _statistics_travel(s: Setting) -> bool:
    return any(s.kinds[name] == "norm-statistic" for name in s.parts.sharing.shared(s.kinds)) if s.kinds else False


def _too_few_for(rule: type, s: Setting) -> bool:
    """Whether the aggregate is of this kind, and so many hospitals could never be the updates that it needs."""
    aggregate = s.parts.aggregate
    return isinstance(aggregate, rule) and s.hospitals is not None and s.hospitals < aggregate.least


def _too_few_to_count(s: Setting) -> bool:
    privacy = s.parts.privacy
    return isinstance(privacy, SiteAdaptive) and s.hospitals is not None and s.hospitals < privacy.least


TABLE: tuple[Row, ...] = (
    Row(
        "masked exchange, robust aggregate",
        lambda s: _masked(s) and _robust(s),
        "this aggregate compares single updates, but the exchange shows the server only their sum; "
        "use strategy/aggregate=mean or strategy/exchange=plain",
    ),
    Row(
        "masked exchange, lossy wire",
        lambda s: _masked(s) and not s.parts.wire.is_linear,
        "the exchange adds updates up while they are masked, and a sum of compressed updates cannot be decoded; "
        "use strategy/wire=raw or strategy/exchange=plain",
    ),
    Row(
        "masked exchange, server-side clipping",
        lambda s: _masked(s) and s.parts.privacy.unit == "site" and s.parts.privacy.counts_refused,
        "the server must clip each hospital's update, but the exchange hides it; "
        "use strategy/exchange=plain, or strategy/privacy=patient, which hospitals apply themselves",
    ),
    Row(
        "masked exchange, SCAFFOLD",
        lambda s: _masked(s) and s.parts.local.uses_control,
        "control variates would travel beside the masked update in the clear and give it away; "
        "use strategy/local=plain or prox, or strategy/exchange=plain",
    ),
    Row(
        "site privacy, robust aggregate",
        lambda s: s.parts.privacy.unit == "site" and _robust(s),
        "the noise is calibrated for a weighted mean; the sensitivity of a robust aggregate is not bounded by it; "
        "use strategy/aggregate=mean",
    ),
    Row(
        "noise without clipping, lossy wire",
        lambda s: getattr(s.parts.privacy, "clip", 0.0) is None and not s.parts.wire.is_linear,
        "an update that is not clipped has no bound that noise could follow, and a sparse one is larger in what it "
        "keeps; set strategy.privacy.clip, or use strategy/wire=raw",
    ),
    Row(
        "adaptive clipping, too few hospitals",
        _too_few_to_count,
        "the noise on the count of updates within the bound is 5 % of the hospitals and has to hide one of them; with "
        "so few the bound follows the noise; use strategy/privacy=site",
    ),
    Row(
        "private, SCAFFOLD",
        lambda s: s.parts.privacy.unit in PRIVATE and s.parts.local.uses_control,
        "SCAFFOLD's control variates are mean gradients of a hospital's data and would leave without noise; "
        "use strategy/local=plain or prox",
    ),
    Row(
        "private, quality weights",
        lambda s: s.parts.privacy.unit in PRIVATE and s.parts.weighting.needs_score,
        "weights by validation score are computed from patients' data and are themselves a release; "
        "use strategy/weighting=size or equal",
    ),
    Row(
        "private, adaptive μ",
        lambda s: s.parts.privacy.unit in PRIVATE and _adaptive_mu(s),
        "an adaptive μ follows training losses, which are computed from patients' data without noise; "
        "set strategy.local.adaptive=false",
    ),
    Row(
        "private local training, batch norm",
        lambda s: s.parts.privacy.unit in PRIVATE_FITS and "norm-statistic" in s.kinds.values(),
        "batch norm mixes the patients of a batch, so no patient's gradient can be clipped on its own; "
        "set model.norm=group",
    ),
    Row(
        "site privacy, batch norm",
        lambda s: s.parts.privacy.unit == "site" and _statistics_travel(s),
        "noise would carry batch norm's running variances below zero; set model.norm=group, or use "
        "strategy/sharing=fedbn",
    ),
    Row(
        "SCAFFOLD, robust aggregate",
        lambda s: s.parts.local.uses_control and _robust(s),
        "SCAFFOLD's control variates are averaged, so one hospital could still pull the model through them; "
        "use strategy/aggregate=mean or strategy/local=plain",
    ),
    Row(
        "FedBN, no norm layers",
        lambda s: isinstance(s.parts.sharing, FedBN) and bool(s.kinds) and not _norms(s),
        "FedBN keeps normalisation layers in the hospitals, and this model has none; use strategy/sharing=all",
    ),
    Row(
        "Krum, too few hospitals",
        lambda s: _too_few_for(Krum, s),
        "Krum withstands f arbitrary updates among n only where f < (n − 2)/2, that is n ≥ 2f + 3, and averages at "
        "most n − f; lower strategy.aggregate.byzantine or strategy.aggregate.chosen, or use strategy/aggregate=mean",
    ),
    Row(
        "trimmed mean, too few hospitals",
        lambda s: _too_few_for(TrimmedMean, s),
        "the trimmed mean cuts ⌊fraction · n⌋ updates at each end, and that is none: it would be an unweighted mean; "
        "raise strategy.aggregate.fraction to at least 1/n, or use strategy/aggregate=median; of fewer than three "
        "hospitals neither withstands one: use strategy/aggregate=mean there",
    ),
    Row(
        "median, too few hospitals",
        lambda s: _too_few_for(Median, s),
        "the median withstands fewer than half of the hospitals, and of two that is nobody: it would be an unweighted "
        "mean; use strategy/aggregate=mean",
    ),
)


def misfits(setting: Setting) -> Iterator[Row]:
    """The rows that hold."""
    return (row for row in TABLE if row.holds(setting))


def check(parts: Parts, *, kinds: Mapping[str, str] | None = None, hospitals: int | None = None) -> None:
    """Raise Misfit with every reason why these parts do not work together, on this model and so many hospitals.

    `kinds` maps all tensors of the model to their kinds. Raises PartError for a layer that sharing names and the
    model does not have.
    """
    if kinds:
        parts.sharing.shared(kinds)
    rows = list(misfits(Setting(parts, kinds or {}, hospitals)))
    if rows:
        raise Misfit("; ".join(f"{row.name}: {row.reason}" for row in rows))
