"""A cohort on disk: read back by other people's readers, reproducible, never half there."""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from data.synthetic import write_cohort
from data.synthetic.phantom import Frame, draw_patient
from data.synthetic.scanners import SCANNERS
from data.synthetic.seeds import derive
from data.synthetic.write import FolderTaken, NoRoom

SMALL = {"matrix": 48, "field_of_view_mm": 100.0, "length_mm": 36.0, "candidates": 4}
TWO = {
    "north": {"patients": 2, "scanner": "GE", **SMALL},
    "south": {"patients": 3, "scanner": "PHILIPS", "format": "luna16", **SMALL},
}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _itk_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, hospitals=TWO, seed=7, workers=1)
    return folder


def test_a_hospital_stands_as_in_reality(cohort):
    site = yaml.safe_load((cohort / "north" / "site.yaml").read_text())
    assert site["name"] == "north"
    assert site["source"] == {"_target_": "data.sources.DicomFolder", "path": "data"}
    assert site["policy"]["epsilon_cap"] == 8.0
    assert (cohort / "north" / site["state_dir"]).is_dir()
    assert yaml.safe_load((cohort / "south" / "site.yaml").read_text())["source"]["_target_"] == "data.sources.Luna16"


def test_itk_reads_from_dicom_what_was_drawn(cohort):
    rng = derive(7, "north", 0)
    rng.integers(2012, 2024), rng.integers(1, 13), rng.integers(1, 29)  # the study date is drawn first
    frame = Frame(**SMALL)
    drawn = draw_patient(SCANNERS["GE"], frame, rng).volume
    image = _itk_series(cohort / "north" / "data" / "north-00001")
    np.testing.assert_array_equal(drawn.hu_ZYX, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(image.GetSpacing(), drawn.spacing_zyx_mm[::-1], atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), drawn.origin_xyz_mm, atol=1e-3)
