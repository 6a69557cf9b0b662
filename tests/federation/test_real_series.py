"""A real series trains beside phantoms; the same run does not start when one hospital lost its rescale."""

import json

import numpy as np
import pytest

from app.cli import main
from data.partition import split
from data.sources import DicomFolder
from data.statistics.anatomy import anatomy_of
from tests.app.rounds import spoiled
from tests.conftest import SHARED

REAL = SHARED / "lidc-idri-0314" / "dicom"
NODULE_XYZ_MM, DIAMETER_MM = (-57.439, 131.233, -520.359), 15.49
"""LUNA16's annotation of this series."""
NEGATIVES, APART_MM = 12, 40.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """The nodule, and places in the lungs far from it."""
    if not REAL.is_dir():
        pytest.skip("the real imaging data is not beside this checkout (../shared/data)")
    folder = DicomFolder(str(REAL), labels=None)
    (ref,) = folder.scans()
    volume = folder.read(ref)
    anatomy = anatomy_of(volume)
    blocks_zyx = np.argwhere(anatomy.lung_ZYX)[:: max(1, np.count_nonzero(anatomy.lung_ZYX) // 400)]
    voxels = (blocks_zyx + 0.5) * np.array(anatomy.spacing_zyx_mm) / np.array(volume.spacing_zyx_mm)
    places = [volume.voxel_to_world(tuple(voxel)) for voxel in voxels.tolist()]
    far = [place for place in places if np.linalg.norm(np.subtract(place, NODULE_XYZ_MM)) > APART_MM]
    rows = [f"{ref.uid},{','.join(map(str, NODULE_XYZ_MM))},1,{DIAMETER_MM}"]
    rows += [f"{ref.uid},{x:.2f},{y:.2f},{z:.2f},0," for x, y, z in far[:: max(1, len(far) // NEGATIVES)]]
    file = tmp_path_factory.mktemp("labels") / "labels.csv"
    file.write_text("\n".join(["series_uid,x_mm,y_mm,z_mm,label,diameter_mm", *rows]) + "\n")
    return file, ref.patient


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return spoiled.write_hospitals(tmp_path_factory.mktemp("phantoms"), {"B": "GE", "C": "SIEMENS"}, patients=8)


def overrides(labels, b, c):
    file, patient = labels
    key = next(
        k for k in map(str, range(100)) if split([patient], key=k, test=0.25, validation=0.15)[patient] == "train"
    )
    real = f"{{_target_: data.sources.DicomFolder, path: {REAL}, labels: {file}}}"
    return [
        "source=dicom", f"source.path={REAL}", f"+federation.hospitals.A.source={real}",
        f"+federation.hospitals.B.site={b / 'site.yaml'}", f"+federation.hospitals.C.site={c / 'site.yaml'}",
        "model=tiny", "rounds=1", "replicates=20", "training.batch_size=16", f"split.key='{key}'",
    ]  # fmt: skip


def quiet(hospital):
    """The cohort's policy wants five training patients, of eight some are held out."""
    file = hospital / "site.yaml"
    file.write_text(file.read_text().replace("min_patients: 5", "min_patients: 2"))
    return hospital


def test_a_real_series_trains_beside_phantoms_and_a_lost_rescale_stops_the_run(labels, phantoms, tmp_path, capsys):
    b, c = quiet(phantoms / "B"), quiet(phantoms / "C")
    args = ["run", "--engine", "inprocess", "--json"]
    assert main([*args, "--run-dir", str(tmp_path / "sound"), *overrides(labels, b, c)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["status"] == "completed"
    assert {name: row["rounds"] for name, row in summary["hospitals"].items()} == {"A": 1, "B": 1, "C": 1}
    shared = json.loads((tmp_path / "sound" / "partition.json").read_text())
    assert {name: row["patients"] for name, row in shared.items()} == {"A": 1, "B": 8, "C": 8}
    assert (shared["A"]["positives"], shared["A"]["crops"] > NEGATIVES) == (1, True)
    compared = json.loads((tmp_path / "sound" / "comparison.json").read_text())
    assert [remark for remark in compared["remarks"] if remark["stops"]] == []
    assert compared["hospitals"]["A"]["vendors"] == {"PHILIPS": 5}  # one, rounded up

    broken = spoiled.spoiled(c, tmp_path / "C", spoiled.headers(spoiled.without_rescale))
    assert main([*args, "--run-dir", str(tmp_path / "broken"), *overrides(labels, b, broken)]) == 1
    said = capsys.readouterr().err.partition("fedvox: ")[2]
    assert "hospital C: soft tissue is " in said
    assert "HU, plausible is -200 to 250 HU (other hospitals: " in said
    assert "hospital A" not in said
    summary = json.loads((tmp_path / "broken" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("failed", 0)
    assert not (tmp_path / "broken" / "rounds.jsonl").exists()
