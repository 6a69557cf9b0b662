"""`fedvox data check`: its lines, its JSON, its exit codes, its sheet."""

import collections
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from app.cli import main
from tests.app.rounds import spoiled
from tests.conftest import SHARED

LINE = re.compile(r"(REFUSED|WARNING|NOTE) [a-z-]+ .+ — .+")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    return spoiled.write_hospitals(tmp_path_factory.mktemp("check"), {"north": "SIEMENS"}, patients=3) / "north"


def run(capsys, *args):
    code = main(["data", "check", *map(str, args)])
    return code, capsys.readouterr().out


def test_a_sound_hospital_passes_with_its_numbers(capsys, hospital):
    code, out = run(capsys, hospital / "site.yaml")
    assert code == 0
    assert "nothing is refused" in out
    for row in (
        "3, 3 of them usable",
        "3 of 3 patients, 3 labelled",
        "SIEMENS 3",
        "soft tissue",
        "place of the spine behind the lungs",
    ):
        assert row in out
    lines = out.splitlines()
    found = [line for line in lines if line.startswith(("REFUSED", "WARNING", "NOTE"))]
    assert len(found) >= 3
    assert all(LINE.fullmatch(line) for line in found)


def test_a_lost_rescale_is_refused(capsys, hospital, tmp_path):
    south = spoiled.spoiled(hospital, tmp_path / "south", spoiled.headers(spoiled.without_rescale))
    code, out = run(capsys, south / "site.yaml")
    assert code == 1
    assert re.search(r"REFUSED implausible-tissue-hu all scans together: soft tissue is [\d.]+ HU.* — the rescale", out)


def test_json_is_all_that_is_printed(capsys, hospital):
    code, out = run(capsys, hospital / "site.yaml", "--json", "preprocess=ct32")
    told = json.loads(out)
    assert (code, told["refused"]) == (0, False)
    assert told["summary"]["patients"] == 3
    assert told["statistics"]["numbers"]["tissue_hu"] < 100
    assert {"level", "code", "what", "remedy"} == set(told["findings"][0])


def test_headers_only_measures_nothing(capsys, hospital):
    code, out = run(capsys, hospital / "site.yaml", "--headers-only", "--json")
    assert (code, json.loads(out)["statistics"]) == (0, None)


def test_a_plain_folder_is_taken_too(capsys, hospital, tmp_path):
    code, out = run(capsys, hospital / "data", "--headers-only")
    assert code == 0
    assert "3 of 3 patients, 3 labelled" in out  # its labels.csv is there
    shutil.copytree(hospital / "data", tmp_path / "bare", ignore=shutil.ignore_patterns("labels.csv"))
    code, out = run(capsys, tmp_path / "bare", "--headers-only")
    assert code == 0
    assert "3 of 3 patients, 0 labelled" in out


def test_the_sheet_is_a_png(capsys, hospital, tmp_path):
    code, out = run(capsys, hospital / "site.yaml", "--sheet", tmp_path / "sheet.png")
    assert code == 0
    assert "sheet.png" in out
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width > 600
    assert np.asarray(sheet).std() > 20


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["/nowhere.yaml"], 2, "cannot read /nowhere.yaml"),
        (["/nowhere.yaml", "--sheet", "x.png", "--headers-only"], 2, "--sheet needs pixels"),
        (["/nowhere.yaml", "preprocess=ct65"], 2, "preprocess=ct65"),
    ],
)
def test_wrong_use_is_one_line(capsys, args, code, said):
    assert main(["data", "check", *args]) == code
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_real_scans_syntaxes_and_oddities_in_one_folder_are_all_named(capsys, tmp_path):
    if not (SHARED / "lidc-idri-0314").is_dir():
        pytest.skip("the real imaging data is not beside this checkout (../shared/data)")
    everything = tmp_path / "everything"
    for name in ("lidc-idri-0314/dicom", "dicom-transfer-syntaxes", "dicom-odd"):
        shutil.copytree(SHARED / name, everything / name.partition("/")[0])
    code, out = run(capsys, everything)
    assert code == 1
    (usable,) = [line for line in out.splitlines() if line.startswith("NOTE usable")]
    assert "1.3.6.1.4.1.14519.5.2.1.6279.6001.154677396354641150280013275227" in usable
    assert "275 slices of 1.00 × 0.78 × 0.78 mm, PHILIPS" in usable
    others = [line for line in out.splitlines() if line.startswith(("REFUSED", "WARNING", "NOTE wrong-modality"))]
    assert all(LINE.fullmatch(line) for line in others)
    codes = [line.split()[1] for line in others]
    found = collections.Counter(code for code in codes if not code.startswith("implausible-"))
    # Of the odd series: two with a gap, four slices at one position, one tilted and 19 mm long, three of MR.
    # Of the syntaxes: lossless copies of one slice, and lossy ones, which say that they are derived.
    assert found == {
        "missing-slice": 2, "duplicate-position": 2, "crop-too-large": 1, "wrong-modality": 3, "lossy-image": 1
    }  # fmt: skip
