"""What is refused before a run's folder exists."""

import pytest

from app.commands.rehearsal import try_out
from app.config import build, compose
from strategies.errors import Misfit, PartError

FIVE = ["federation=five_vendors", "model=tiny"]


@pytest.mark.parametrize("rule", ["krum", "multikrum", "median", "trimmed_mean"])
@pytest.mark.parametrize("mode", ["central", "local_only"])
def test_a_robust_rule_is_refused_where_a_leg_has_one_hospital_alone(rule, mode):
    settings = [*FIVE, f"strategy/aggregate={rule}"]
    try_out(compose(settings))
    with pytest.raises(Misfit, match="too few hospitals"):
        try_out(compose([*settings, f"federation.mode={mode}"]))


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["strategy=scaffold", "strategy/aggregate=median"], Misfit, "SCAFFOLD, robust aggregate"),
        (["strategy=fedprox", "strategy.local.mu=-1"], PartError, "local prox: mu"),
    ],
)
def test_what_a_strategy_refuses_comes_in_its_own_words(overrides, error, said):
    with pytest.raises(error, match=f"^{said}"):
        build(compose(overrides)["strategy"])
