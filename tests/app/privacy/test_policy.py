import pytest

from app.config import compose
from app.privacy.policy import check_accepted
from app.privacy.terms import terms_of
from app.site.shield import Declined

PRIVATE = ["experiment=private_demo", "rounds=2", "strategy.privacy.steps=5", "strategy.privacy.epsilon=1.0"]


def code(policy, *overrides, unit="patient"):
    """What a hospital with this policy says to such a run; "" where it takes part."""
    try:
        check_accepted(policy, unit, terms_of(compose([*PRIVATE, *overrides])))
    except Declined as declined:
        return declined.code
    return ""


@pytest.mark.parametrize(("delta", "said"), [(1e-5, ""), (0.1, "policy-epsilon-max")])
def test_a_hospital_reads_the_epsilon_of_a_run_at_its_own_delta_and_not_at_the_run_s(delta, said):
    # ε 1 at δ 0.1 takes hardly any noise
    limited = {"accepted": {"epsilon_max": 1.01}}
    assert code(limited, f"strategy.privacy.delta={delta}") == said
    assert code({**limited, "delta": 1e-5}, f"strategy.privacy.delta={delta}") == said


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"epsilon_cap": 8.0}, "policy-unit"),
        ({"epsilon_cap": 8.0, "accepted": {"unit": ["patient", "sample"]}}, ""),
        ({}, ""),
    ],
)
def test_under_a_cap_for_patients_crops_are_no_unit_unless_the_hospital_says_so(policy, said):
    assert code(policy, "strategy/privacy=sample", unit="sample") == said
