"""site.yaml: what is wrong is named with its line."""

import pytest

from app.config import ConfigError, compose
from app.site import site
from app.site.directory import open_site
from app.site.site_file import read_site_file

GOOD = """\
name: north
source: {_target_: data.sources.DicomFolder, path: data}
cache_dir: cache
state_dir: state
policy:
  epsilon_cap: 8.0
  min_patients: 5
"""


def write(folder, text):
    (folder / "site.yaml").write_text(text)
    return folder / "site.yaml"


def test_paths_are_relative_to_the_file(tmp_path):
    file = read_site_file(write(tmp_path, GOOD))
    assert (file.name, file.cache_dir, file.state_dir) == ("north", tmp_path / "cache", tmp_path / "state")
    assert file.source["path"] == str(tmp_path / "data")
    assert file.cache_gb is None
    assert file.policy == {"epsilon_cap": 8.0, "min_patients": 5}


def test_a_limit_of_the_cache_reaches_it(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(site, "open_crops", lambda source, preprocess, cache, progress: opened.append(cache))
    config = compose(
        ["federation=sites", "federation.sites=null", f"++federation.hospitals.north.site={tmp_path}/site.yaml"]
    )
    write(tmp_path, GOOD + "cache_gb: 0.5\n")
    open_site(config, "north").crops(config)
    assert (opened[0].path, opened[0].limit_gb) == (str(tmp_path / "cache"), 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("state_dir: state\n", ""), "state_dir is missing"),
        (("cache_dir: cache", "cachedir: cache"), r"site\.yaml:3: unknown field 'cachedir'"),
        (("min_patients: 5", "min_patients: five"), r"site\.yaml:7: policy\.min_patients is 'five'; a int"),
        (("cache_dir: cache", "cache_dir: cache\ncache_gb: much"), r"site\.yaml:4: cache_gb is 'much'"),
        (("epsilon_cap: 8.0", "epsilon_cap: .nan"), r"site\.yaml:6: policy\.epsilon_cap is nan; a number of 0 or more"),
        (("epsilon_cap: 8.0", "epsilon_cap: -1"), r"site\.yaml:6: policy\.epsilon_cap is -1"),
        (("epsilon_cap: 8.0", "delta: 1.0"), r"site\.yaml:6: policy\.delta is 1\.0; a probability strictly between"),
        (("epsilon_cap: 8.0", "epsilon: 8.0"), r"site\.yaml:6: unknown field 'policy\.epsilon'"),
        (("name: north", "name: [north"), "no valid YAML"),
        ((GOOD, ""), "no fields"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said) as caught:
        read_site_file(write(tmp_path, GOOD.replace(*change)))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match="data synth"):
        read_site_file(tmp_path / "site.yaml")


def test_the_ledger_s_key_lies_where_the_file_says_and_never_with_the_ledger(tmp_path):
    assert not read_site_file(write(tmp_path, GOOD)).ledger_key.is_relative_to(tmp_path / "state")
    elsewhere = read_site_file(write(tmp_path, GOOD + "ledger_key: keys/north.key\n"))
    assert elsewhere.ledger_key == tmp_path / "keys" / "north.key"
    for inside in ("state/north.key", "cache/../state/keys/north.key"):
        with pytest.raises(ConfigError, match="lies in state_dir"):
            read_site_file(write(tmp_path, GOOD + f"ledger_key: {inside}\n"))
