import pytest

from app.config import compose
from app.privacy.payment import Account
from app.privacy.terms import terms_of
from app.site.budget import Budget, BudgetError
from app.site.run_limits import RunLimits
from strategies.privacy.ledger import Request

CONFIG = ["experiment=private_demo", "rounds=2", "strategy.privacy.steps=5"]


@pytest.mark.parametrize(
    ("accepted", "code"), [({"steps_max": 10}, "policy-steps-max"), ({"epsilon_max": 3.3}, "policy-epsilon-max")]
)
def test_a_run_pays_for_what_its_configuration_promises_and_is_declined_a_round_more(tmp_path, accepted, code):
    terms = terms_of(compose(CONFIG))
    account = Account(
        Budget(tmp_path / "state", tmp_path / "key", "north"), 100.0, 1e-5, RunLimits.of({"accepted": accepted})
    )
    for round in (1, 2):
        account.reserve(Request("run", "", round, "model"), terms.round, terms)
    account.reserve(Request("run", "", 2, "scores"), terms.scoring, terms)
    with pytest.raises(BudgetError) as declined:
        account.reserve(Request("run", "", 2, "another model"), terms.round, terms)
    assert declined.value.code == code


def test_what_a_run_may_cost_is_read_at_the_hospitals_own_delta():
    policy = {"accepted": {"epsilon_max": 4.0, "unit": ["patient"]}, "delta": 1e-6}
    assert RunLimits.of(policy) == RunLimits(4.0, None, 1e-6)
    assert RunLimits.of({}) == RunLimits()
