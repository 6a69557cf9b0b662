import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from strategies.aggregate.geometric_median import GeometricMedian
from strategies.aggregate.krum import Krum
from strategies.aggregate.robust import Median, TrimmedMean
from strategies.checks import TABLE, Setting, check, misfits
from strategies.errors import Misfit, PartError
from strategies.exchange.plain import Plain as PlainExchange
from strategies.local.prox import Prox
from strategies.local.scaffold import Scaffold
from strategies.privacy.adaptive import SiteAdaptive
from strategies.privacy.naive import NaiveMeanNoise
from strategies.privacy.none import NoPrivacy
from strategies.sharing import FedBN, Partial
from strategies.weighting import Product, Quality, Size
from strategies.wire.int8 import Int8
from strategies.wire.topk import TopK
from tests.strategies.fakes import FakeGrid, course, federated, vector

CONF = Path(__file__).resolve().parents[2] / "conf"

GROUP = {"conv.weight": "conv", "n.weight": "norm"}
BATCH = {**GROUP, "n.running_mean": "norm-statistic"}
BARE = {"conv.weight": "conv"}


@dataclass(frozen=True)
class Masked(PlainExchange):
    """Shows the server sums only."""

    shows_individual = False


@dataclass(frozen=True)
class Private(NoPrivacy):
    unit: str = "patient"
    counts_refused: bool = False


SITE = Private("site", counts_refused=True)

MISFITS = {
    "masked exchange, robust aggregate": ({"exchange": Masked(), "aggregate": Median()}, {}),
    "masked exchange, lossy wire": ({"exchange": Masked(), "wire": Int8()}, {}),
    "masked exchange, server-side clipping": ({"exchange": Masked(), "privacy": SITE}, {}),
    "masked exchange, SCAFFOLD": ({"exchange": Masked(), "local": Scaffold()}, {}),
    "site privacy, robust aggregate": ({"privacy": SITE, "aggregate": Median()}, {}),
    "noise without clipping, lossy wire": ({"privacy": NaiveMeanNoise(3.2, None), "wire": TopK(0.1)}, {}),
    "adaptive clipping, too few hospitals": ({"privacy": SiteAdaptive(4.25, 1.0, 50)}, {"hospitals": 3}),
    "private, SCAFFOLD": ({"privacy": Private(), "local": Scaffold()}, {}),
    "private, quality weights": ({"privacy": Private(), "weighting": Product([Size(), Quality()])}, {}),
    "private, adaptive μ": ({"privacy": Private(), "local": Prox(adaptive=True)}, {}),
    "private local training, batch norm": ({"privacy": Private()}, {"kinds": BATCH}),
    "site privacy, batch norm": ({"privacy": SITE}, {"kinds": BATCH}),
    "SCAFFOLD, robust aggregate": ({"local": Scaffold(), "aggregate": Median()}, {}),
    "FedBN, no norm layers": ({"sharing": FedBN()}, {"kinds": BARE}),
    "Krum, too few hospitals": ({"aggregate": Krum(2)}, {"hospitals": 6}),
    "trimmed mean, too few hospitals": ({"aggregate": TrimmedMean(0.2)}, {"hospitals": 4}),
    "median, too few hospitals": ({"aggregate": Median()}, {"hospitals": 2}),
}

FITS = [
    ({"exchange": Masked()}, {}),
    ({"exchange": Masked(), "local": Prox()}, {}),
    ({"exchange": Masked(), "privacy": Private("site", counts_refused=False)}, {}),
    ({"privacy": SITE, "local": Prox(), "sharing": FedBN(), "wire": Int8()}, {"kinds": BATCH}),
    ({"privacy": Private(), "local": Prox()}, {"kinds": GROUP}),
    ({"local": Scaffold(), "sharing": FedBN(), "wire": Int8()}, {"kinds": BATCH}),
    ({"aggregate": Krum(2)}, {"hospitals": 7}),
    ({"aggregate": TrimmedMean(0.2)}, {"hospitals": 5}),
    ({"aggregate": Median()}, {"hospitals": 3}),
    ({"aggregate": Krum(1, chosen=4)}, {"hospitals": 5}),
    ({"aggregate": GeometricMedian()}, {"hospitals": 2}),
    ({"weighting": Quality(), "aggregate": Median()}, {}),
]


def parts(**chosen):
    """Nine parts that nobody has checked yet."""
    plain = federated()
    for name, part in chosen.items():
        setattr(plain, name, part)
    return plain


def test_every_row_of_the_table_has_its_example_here():
    assert set(MISFITS) == {row.name for row in TABLE}


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_is_refused_for_its_own_reason_alone(name):
    chosen, known = MISFITS[name]
    (row,) = misfits(Setting(parts(**chosen), **known))
    assert row.name == name
    with pytest.raises(Misfit, match=r"; use |; lower |; set |; raise "):
        check(parts(**chosen), **known)


@pytest.mark.parametrize("chosen", [4, 5])
def test_multi_krum_averages_none_more_than_are_honest(chosen):
    # n = 5, f = 1: n ≥ 2f + 3 holds, and m ≤ n − f is 4
    asked = Setting(parts(aggregate=Krum(1, chosen)), hospitals=5)
    assert [row.name for row in misfits(asked)] == ([] if chosen == 4 else ["Krum, too few hospitals"])


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_remedy_is_an_option_that_there_is(row):
    for group, one, other in re.findall(r"(strategy/\w+)=(\w+)(?: or (\w+)\b(?!/))?", row.reason):
        for option in filter(None, (one, other)):
            assert (CONF / group / f"{option}.yaml").exists(), f"{group}={option}"


@pytest.mark.parametrize(("chosen", "known"), FITS)
def test_what_fits_passes(chosen, known):
    check(parts(**chosen), **known)


def test_several_reasons_are_given_together():
    with pytest.raises(Misfit, match=r"robust aggregate.*; .*lossy wire"):
        check(parts(exchange=Masked(), aggregate=Median(), wire=Int8()))


def test_parts_are_checked_when_they_are_composed():
    with pytest.raises(Misfit, match="SCAFFOLD, robust"):
        federated(local=Scaffold(), aggregate=Median())


def test_the_model_is_checked_before_anybody_is_asked():
    grid = FakeGrid({})
    with pytest.raises(Misfit, match="FedBN"):
        federated(sharing=FedBN()).run(grid, replace(course({}, vector(1)), kinds=BARE))


def test_a_layer_that_the_model_lacks_is_found_at_composition():
    with pytest.raises(PartError, match="no layer 'head'"):
        check(parts(sharing=Partial(["head"])), kinds=GROUP)
