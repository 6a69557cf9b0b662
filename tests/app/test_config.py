"""Composition: typos are refused with the nearest name, targets come from an allowlist, paths become absolute."""

from pathlib import Path

import pytest

from app.config import CONF, ConfigError, absolute_paths, build, compose, from_line, grid, quoted, to_line


def test_the_bare_defaults_compose():
    config = compose()
    assert config["rounds"] >= 1
    assert set(config["strategy"]) == {
        *("_target_", "selection", "weighting", "local", "sharing", "privacy", "wire", "exchange", "aggregate"),
        "server_opt",
    }


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("round=5", "did you mean 'rounds'"),
        ("training.lrr=0.1", "did you mean 'training.lr'"),
        ("strategy/weighting=qualty", "did you mean 'quality'"),
        ("strateg=fedavg", "did you mean 'strategy'"),
        ("model=resnet11", "did you mean 'resnet1"),
        ("rounds=ten", "whole number"),
        ("rounds=0", "at least one round"),
        ("source=dicom", "source.path is not set"),
    ],
)
def test_a_wrong_override_is_refused_with_what_to_write(override, said):
    with pytest.raises(ConfigError, match="(?s)" + said):
        compose([override])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "app.rounds.folder.json.dumps",
        "data.errors.__builtins__",
        "builtins.eval",
        "strategies.os.system",
        3,
    ],
)
def test_nothing_outside_our_packages_can_be_built(target):
    with pytest.raises(ConfigError, match="may not be built"):
        build({"_target_": target, "x": 1})


def test_a_constructor_s_refusal_is_one_line_that_names_the_class():
    with pytest.raises(ConfigError, match=r"app\.training\.fit\.Training.*lr") as caught:
        build({**compose()["training"], "lr": -1.0})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_yaml_composes(path):
    group, name = str(path.relative_to(CONF).parent), path.stem
    chosen = [] if group == "." or (group, name) == ("strategy", "base") else [f"{group}={name}"]
    text = path.read_text()
    if "path: ???" in text or any(f"override /source: {real}" in text for real in ("dicom", "luna16", "cubes")):
        chosen.append("source.path=/nowhere")
    if "sites: ???" in text:
        chosen.append("federation.sites=/nowhere")
    compose(chosen)


def test_overrides_travel_as_one_line_and_come_back():
    overrides = ["rounds=5", "source.path='/a b/c'", 'federation.hospitals.A={share: 0.5, note: "x y"}']
    assert overrides == from_line(to_line(overrides))


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose(["source=cubes", "source.path=" + quoted("it's here/set.npz")])
    made = absolute_paths(config)
    again = compose(["source=cubes", *made])
    assert Path(again["source"]["path"]) == tmp_path / "it's here" / "set.npz"


def test_a_quoted_string_survives_hydra():
    text = "a b, c=d {e} 'f' \\g"
    assert compose([f"baseline={quoted(text)}"])["baseline"] == text


def test_a_grid_is_every_combination_in_order():
    points = grid(["rounds=2", "training.lr=0.1,0.2", "seed=0,1"])
    assert [dict(point.varied) for point in points] == [
        {"training.lr": "0.1", "seed": "0"},
        {"training.lr": "0.1", "seed": "1"},
        {"training.lr": "0.2", "seed": "0"},
        {"training.lr": "0.2", "seed": "1"},
    ]
    assert all("rounds=2" in point.overrides for point in points)
    assert len({point.name() for point in points}) == 4
