import pytest

from app.config import ConfigError, compose, from_line, to_line
from app.deploy.policy_check import CHANGEABLE, check_run
from app.fingerprint import config_hash
from app.site.shield import Declined

ANYTHING = {"accepted": {}}


def refusal(overrides, policy=ANYTHING, only=()):
    line = overrides if isinstance(overrides, str) else to_line(overrides)
    with pytest.raises(Declined) as declined:
        check_run(policy, {"overrides": line}, only)
    return declined.value.code


def test_what_a_researcher_sets_is_composed_as_they_would_see_it():
    overrides = ["experiment=demo", "rounds=3", "strategy=fedavg", "strategy/weighting=size", "training.lr=0.01",
                 "++federation.hospitals.north={}", "deploy=hospitals", "seed=4"]  # fmt: skip
    assert config_hash(check_run(ANYTHING, {"overrides": to_line(overrides)})) == config_hash(compose(overrides))


def test_every_setting_of_the_configuration_but_data_and_their_division_may_be_changed_where_a_file_says_nothing():
    assert set(compose()) - set(CHANGEABLE) == {"source", "partition"}


@pytest.mark.parametrize(
    "line",
    [
        "experiment=${oc.env:HOME}",
        "federation.name=$''{oc.env:HOME}",  # only without the shell's quotes is it an interpolation
        "'federation.name=$\\{oc.env:HOME\\}'",  # only without Hydra's
        "model._target_=app.files.write_text",
        "'model={_target_: app.files.write_text}'",
        "'model={_tar''get_: app.files.write_text}'",
        "+hydra.run.dir=x",
        "seed=1\nrounds=2",
        "seed='1",
        "~training",
        "strategy/local@source=prox",
        "+augment@_global_=standard",
        "hydra.searchpath=[file:///srv/north]",
        "+hydra/launcher=basic",
        "++defaults=[../../site]",
        "strategy/../augment=standard",
        "x" * 30_000,
    ],
)
def test_text_that_could_read_this_machine_or_build_something_else_is_refused_before_it_is_composed(line, monkeypatch):
    monkeypatch.setattr("app.deploy.policy_check.composed", pytest.fail)
    assert refusal(line) in ("policy-text", "policy-override")


OTHER_FILES = (
    "augment=../../../../srv/north/site",
    "'augment=\"../../site\"'",
    "augment=/srv/north/site",
    "augment=//srv/north/site",
    "augment=standard/../../../site",
    "augment=[standard,../../site]",
    "augment=str(../../site)",
    "augment=..",
    "augment=./standard",
    "augment=/source/dicom",
    "augment=pkg://app/x",
    "augment=file:///srv/north/site",
    "augment=site.yaml",
    "augment=",
    "augment=null",
    "+experiment=../../site",
    "experiment=[demo,../../site]",
    "strategy/local=../../site",
    "comparison=~/site",
    "federation=C:/site",
)


@pytest.mark.parametrize("line", OTHER_FILES)
def test_a_group_s_option_is_a_plain_name_and_never_another_file_of_this_machine(line, monkeypatch):
    with pytest.raises(ConfigError):
        compose(from_line(line))  # wherever a hospital composes
    monkeypatch.setattr("app.deploy.policy_check.composed", pytest.fail)
    assert refusal(line) == "policy-text"


def test_a_file_that_is_there_is_refused_as_one_that_is_not(tmp_path):
    (tmp_path / "site.yaml").write_text("name: north\n")
    up = "../" * 12
    answers = {refusal(f"augment={up}{tmp_path.relative_to('/')}/{name}") for name in ("site", "none")}
    assert answers == {"policy-text"}


@pytest.mark.parametrize(
    "line",
    [
        "augment=none",
        "experiment=[demo]",
        "training={lr:0.1}",
        "federation.name=north/south..east",
        "strategy/weighting=size strategy/wire=topk",
    ],
)
def test_options_by_their_names_and_values_whatever_they_are_stay_allowed(line):
    check_run(ANYTHING, {"overrides": line})


@pytest.mark.parametrize(
    "override", ["source=cubes", "source.path=x", "partition=dirichlet", "state_dir=x", "+policy={}"]
)
def test_sources_states_and_policies_are_the_hospitals_own(override):
    assert refusal([override]) == "policy-override"


@pytest.mark.parametrize(
    "override",
    ["federation.sites=elsewhere", "++federation.hospitals.A.site=x", "++federation.hospitals.A.source={path:x}"],
)
def test_nor_does_a_federation_say_where_data_lie(override):
    assert refusal([override]) == "policy-path"


def test_a_hospitals_own_list_covers_a_group_and_what_is_inside_and_no_neighbour():
    policy = {"overrides": ["rounds", "strategy/weighting", "training.lr"]}
    check_run(policy, {"overrides": "rounds=2 strategy/weighting=size training.lr=0.1"})
    for override in ("training.lr_min=0.1", "training=sgd", "strategy=fedavg", "seed=1"):
        assert refusal([override], policy) == "policy-override"


def test_limits_are_held_against_the_values_and_not_against_the_name():
    policy = {"accepted": {"unit": ["patient"], "epsilon_max": 4.0}}
    check_run(policy, {"overrides": "experiment=private_demo"})
    assert refusal(["experiment=private_demo", "strategy/privacy=none"], policy) == "policy-unit"
    assert refusal(["experiment=private_demo", "strategy.privacy.epsilon=5"], policy) == "policy-epsilon-max"
    assert refusal(["experiment=demo"], policy) == "policy-unit"


def test_a_configuration_is_recognised_by_its_hash_where_only_some_are_accepted():
    accepted = config_hash(compose(["experiment=demo"]))
    check_run({"configurations": [accepted]}, {"overrides": "experiment=demo device=cpu"})
    check_run({}, {"overrides": "experiment=demo"}, [accepted])
    assert refusal(["experiment=demo", "rounds=15"], {}, [accepted]) == "policy-configuration"
    assert refusal(["experiment=demo", "rounds=15"], {"configurations": [accepted]}) == "policy-configuration"


def test_what_cannot_be_composed_is_refused_with_a_code_and_its_words_stay_here():
    assert refusal(["rounds=ten"]) == "configuration"


@pytest.mark.parametrize(
    "overrides", ["strategy=fedprox strategy.local.mu=-1", "strategy=scaffold strategy/aggregate=median"]
)
def test_a_strategy_that_cannot_be_built_is_declined_as_a_configuration(overrides):
    assert refusal(overrides) == "configuration"
