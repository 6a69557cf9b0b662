"""What the privacy page warns of, and that it warns of nothing else."""

from dataclasses import replace
from functools import cache
from itertools import zip_longest

import pytest

from app.config import compose
from app.privacy.page import page, warnings
from strategies.privacy.events import NaiveRelease, SiteRelease, to_json

PRIVATE = ["strategy/privacy=patient", "training.class_balance=false", "rounds=2"]
WEIGHTS = {"A": 0.5, "B": 0.5}
SITE = SiteRelease(noise_multiplier=9.3, adjacency="zero-out", clip=1.0, sd=4.65, weights=WEIGHTS)


def hospital(patients, **known):
    return {"patients": patients, "privacy": None, "rounds": 2, "refused": [], **known}


def summary(**hospitals):
    return {"hospitals": hospitals}


@cache
def composed(*overrides):
    return compose(overrides)


def journal(*trained, ledgers=()):
    """One line a round in which north says on how many patients it trained."""
    said = [{"patients": n, "ledger": ledger} for n, ledger in zip_longest(trained, ledgers, fillvalue="")]
    return [
        {"leg": "", "round": n, "privacy": {}, "reports": {"north": report}} for n, report in enumerate(said, start=1)
    ]


def told(*overrides, trained=5000, **row):
    return warnings(
        composed(*PRIVATE, *overrides), journal(trained), summary(north=hospital(**{"patients": 6000, **row}))
    )


def released(*events):
    return [{"privacy": to_json(event), "reports": {}} for event in events]


def told_of(*events):
    return warnings(composed(), released(*events), summary())


def test_enough_patients_real_noise_and_a_small_delta_are_no_matter():
    assert told() == []


def test_too_few_patients_are_told_with_how_many_would_do():
    # 1,000 at ε 1; at ε 3.2 a 3.2nd part of that, and the noise is rounded to the safe side.
    assert told(trained=312) == [
        "north trains on 312 patients: too few for ε 3.2; below about 313 the noise outweighs what is learned"
    ]
    assert told(trained=314) == []


def test_patients_who_are_held_out_teach_nothing_and_do_not_count():
    assert len(told(trained=200, patients=400)) == 1


def test_a_hospital_that_did_not_score_the_model_is_warned_of_too():
    assert len(told(trained=200, patients=None)) == 1
    assert told("strategy.privacy.delta=0.001", trained=1000, patients=None) == [
        "δ 0.001 is not below 1/1000: it may give a patient of north away whole"
    ]


def test_a_hospital_that_never_trained_is_warned_of_for_nothing():
    assert warnings(composed(*PRIVATE), [], summary(north=hospital(None))) == []


def test_a_delta_that_may_give_a_patient_away_whole_is_told():
    assert any("δ 0.001 is not below 1/1000" in text for text in told("strategy.privacy.delta=0.001", patients=1000))
    assert told("strategy.privacy.delta=0.000999", patients=1000) == []


def test_the_delta_is_judged_that_the_hospital_s_own_file_sets_and_the_table_shows():
    assert told(patients=1000, privacy={"delta": 1e-2}) == [
        "δ 0.01 is not below 1/1000: it may give a patient of north away whole"
    ]
    assert told("strategy.privacy.delta=0.01", patients=1000, privacy={"delta": 1e-5}) == []


def test_a_ledger_that_went_back_during_the_run_is_told():
    lines = journal(5000, 5000, ledgers=["5:aa", "3:bb"])
    (said,) = warnings(composed(*PRIVATE), lines, summary(north=hospital(5000)))
    assert said.startswith("ledger-rolled-back: the ledger of north has 3 lines in round 2")


def test_of_a_fixed_seed_nothing_else_is_told():
    assert told("strategy.privacy.fixed_seed=1", trained=3) == [
        "fixed seed: draws and noise can be foretold, so no ε is claimed"
    ]


def test_single_crops_as_units_are_told():
    assert any("the unit is one crop" in text for text in told("strategy/privacy=sample"))


def test_without_any_mechanism_nothing_is_claimed():
    text = page(composed(), [], summary(north=hospital(50)))
    assert "no ε is claimed, and updates may tell about patients" in text
    assert "| north | – | – | – | – | 2 | – |" in text
    assert told_of() == []


def test_the_weights_of_every_release_are_on_the_page_not_the_last_one_s_alone():
    alone = replace(SITE, weights={"A": 1.0}, sd=9.3, clip=2.0)
    text = page(composed(), released(SITE, alone, SITE), summary())
    assert "| weights used | A 0.500–1.000 in 3 of 3; B 0.500 in 2 of 3 (each release's: rounds.jsonl" in text
    assert "| clipping bound | 1–2 |" in text
    assert "| noise multiplier | 9.3000 |" in text


def test_noise_at_the_server_is_not_amplified_and_the_page_says_so():
    assert told_of(SITE) == ["no amplification: every hospital's noise counts in full in every round"]


@pytest.mark.parametrize(("clip", "noise", "also"), [(1.0, 10.0, 0), (None, 0.0, 1)])
def test_a_formula_in_circulation_is_named_with_its_claim_and_with_a_clip_that_is_missing(clip, noise, also):
    naive = NaiveRelease(
        formula="mean noise", claimed_epsilon=1.0, noise_multiplier=noise, clip=clip, sd=10.0, weights=WEIGHTS
    )
    said = told_of(naive)
    assert "mean noise is a formula in circulation, for comparison: it claims ε 1; see the table" in said
    assert sum("no clipping: one update may be of any size" in text for text in said) == also


def test_a_hospital_that_left_is_listed_with_the_code_and_since_when():
    refused = [{"round": at, "code": "budget-cap"} for at in (4, 3, 5)]
    text = page(composed(*PRIVATE), [], summary(north=hospital(5000, refused=refused)))
    assert "budget-cap since round 3" in text
