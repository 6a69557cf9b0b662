"""A hospital as numbers: what is counted, what is looked at, what changes the stamp, what may leave."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from data.errors import BadSetting
from data.preprocess import Preprocess
from data.samples import Candidate, ScanRef
from data.statistics import Limits, Sampling, of_plain, site_statistics, statistics_stamp
from data.statistics.disclosed import disclosed
from data.statistics.limits import base_name
from data.statistics.quantities import QUANTITIES
from data.statistics.vendors import known_vendor
from data.volume import CtVolume

CT = Preprocess(spacing_mm=2.0, size=16, window_hu=(-1000, 400))
GREY = Preprocess(spacing_mm=None, size=16, window_hu=(0, 255))


@dataclass(frozen=True)
class Drawer:
    """A source in memory: one chest, as many scans as asked for, `places` in each."""

    chest: CtVolume
    patients: tuple[str, ...]
    places: tuple[Candidate, ...]
    resident: bool = False
    scanner: str = "SIEMENS"
    stamps: dict[str, str] = field(default_factory=dict)

    def scans(self):
        return [ScanRef(f"1.{i}", patient, self.scanner) for i, patient in enumerate(self.patients)]

    def read(self, ref):
        return self.chest

    def candidates(self, ref):
        return list(self.places)

    def stamp(self, ref):
        return self.stamps.get(ref.uid, "as it was")


def middle(chest: CtVolume) -> tuple[float, float, float]:
    z, y, x = (n / 2 for n in chest.hu_ZYX.shape)
    return chest.voxel_to_world((z, y, x))


@pytest.fixture
def hospital(chests):
    chest = chests["SIEMENS"]
    x, y, z = middle(chest)
    places = (Candidate((x, y, z), 1, 8.0), Candidate((x + 50, y, z), 0), Candidate((x - 50, y, z), 0))
    return Drawer(chest, tuple(f"p{i}" for i in range(6)), places)


def test_everything_is_counted_and_a_sample_is_looked_at(hospital):
    statistics = site_statistics(hospital, CT, sampling=Sampling(scans=3, crops=100))
    assert statistics.counts == {
        "patients": 6, "scans": 6, "crops": 18, "positives": 6,
        "seen_patients": 3, "seen_scans": 3, "seen_negatives": 6, "seen_positives": 3,
    }  # fmt: skip
    assert statistics.vendors == {"SIEMENS": 6}
    assert statistics.numbers["positive_share"] == pytest.approx(1 / 3)
    assert statistics.numbers["measured_negatives"] == -1.0
    assert statistics.numbers["outside_share"] == 0.0
    assert {base_name(name) for name in statistics.numbers} <= set(QUANTITIES)


def test_a_patient_is_looked_at_once_before_any_is_looked_at_twice(hospital):
    twice = replace(hospital, patients=("a", "a", "a", "a", "b", "c"))
    assert site_statistics(twice, CT, sampling=Sampling(scans=3)).counts["seen_patients"] == 3


def test_scans_with_positives_are_looked_at_first_and_scans_without_labels_last(hospital):
    positive, negative = hospital.places[0], hospital.places[1]
    labelled = {"1.2": [positive], "1.4": [negative]}

    @dataclass(frozen=True)
    class Some(Drawer):
        def candidates(self, ref):
            return labelled.get(ref.uid, [])

    some = Some(hospital.chest, hospital.patients, ())
    counts = [site_statistics(some, CT, sampling=Sampling(scans=n)).counts for n in (1, 2)]
    assert (counts[0]["seen_positives"], counts[0]["seen_negatives"]) == (1, 0)
    assert (counts[1]["seen_positives"], counts[1]["seen_negatives"]) == (1, 1)


def test_crops_are_thinned_by_class(hospital):
    x, y, z = middle(hospital.chest)
    many = replace(hospital, places=(hospital.places[0], *[Candidate((x + i, y, z), 0) for i in range(40)]))
    counts = site_statistics(many, CT, sampling=Sampling(scans=2, crops=20)).counts
    assert (counts["seen_positives"], counts["seen_negatives"]) == (2, 10)


def test_labels_outside_their_scan_are_counted_instead_of_ending_it(hospital):
    x, y, z = middle(hospital.chest)
    off = replace(hospital, places=(Candidate((x, y, z), 1), Candidate((x, y, z + 4000), 0)))
    assert site_statistics(off, CT, sampling=Sampling(scans=2)).numbers["outside_share"] == 0.5


def test_a_hospital_without_labels_has_numbers_of_its_scans(hospital):
    bare = site_statistics(replace(hospital, places=()), CT, sampling=Sampling(scans=1))
    assert bare.numbers["labelled"] == 0.0
    assert "tissue_hu" in bare.numbers
    assert (bare.histograms, bare.separation) == ({}, {})
    assert "positive_share" not in bare.numbers


def test_ready_made_cubes_have_no_hounsfield_units_and_say_so(hospital):
    cube = CtVolume(np.full((16, 16, 16), 100, np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    cubes = replace(hospital, chest=cube, resident=True, places=(Candidate((8.0, 8.0, 8.0), 1),))
    statistics = site_statistics(cubes, GREY, sampling=Sampling(scans=1, crops=4))
    assert not statistics.is_ct
    assert statistics.counts["seen_scans"] == 4
    assert statistics.numbers["crop_mean"] == pytest.approx(100 / 255)
    assert not {"tissue_hu", "slice_mm", "lateral", "positive_centre_hu"} & set(statistics.numbers)


def test_statistics_survive_a_file(hospital):
    statistics = site_statistics(hospital, CT, sampling=Sampling(scans=1))
    assert of_plain(json.loads(json.dumps(statistics.plain()))) == statistics


def test_the_stamp_follows_scans_labels_preprocessing_and_sampling(hospital):
    sampling = Sampling()
    same = statistics_stamp(hospital, CT, sampling)
    others = [
        statistics_stamp(replace(hospital, stamps={"1.3": "changed"}), CT, sampling),
        statistics_stamp(replace(hospital, places=hospital.places[:2]), CT, sampling),
        statistics_stamp(replace(hospital, patients=("q", *hospital.patients[1:])), CT, sampling),
        statistics_stamp(hospital, replace(CT, size=12), sampling),
        statistics_stamp(hospital, CT, Sampling(scans=3)),
    ]
    assert statistics_stamp(replace(hospital), CT, sampling) == same
    assert len({same, *others}) == 6


def test_progress_is_told(hospital):
    seen = []
    site_statistics(hospital, CT, sampling=Sampling(scans=2), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("settings", [{"scans": 0}, {"crops": 0}])
def test_looking_at_nothing_is_refused(settings):
    with pytest.raises(BadSetting, match="at least one of each"):
        Sampling(**settings)


# --- what may leave ---


def test_what_leaves_is_medians_of_enough_patients_with_three_digits(hospital):
    leaving = disclosed(site_statistics(hospital, CT), min_patients=5)
    assert leaving.counts["patients"] == 10  # 6, rounded up to fives
    assert leaving.vendors == {"SIEMENS": 10}
    assert all(name == base_name(name) for name in leaving.numbers)
    assert all(value == float(f"{value:.3g}") for value in leaving.numbers.values())
    assert leaving.numbers["labelled"] == 20.0  # 18
    assert leaving.numbers["positive_share"] == 0.33
    assert leaving.told == {}


def test_a_hospital_of_too_few_patients_tells_nothing(hospital):
    few = replace(hospital, patients=("a", "b", "c", "c", "c", "c"))
    assert disclosed(site_statistics(few, CT), min_patients=4) is None
    assert disclosed(site_statistics(hospital, CT, sampling=Sampling(scans=3)), min_patients=4) is None


def test_a_number_of_too_few_patients_is_left_out(hospital):
    statistics = site_statistics(hospital, CT)
    few = replace(statistics, told={**statistics.told, "airway_up": 4, "positive": 4})
    leaving = disclosed(few, min_patients=5)
    assert {"airway_up", "positive_centre", "positive_centre_hu"} & set(leaving.numbers) == set()
    assert set(leaving.histograms) == {"negative"}
    assert leaving.separation == {}
    assert "tissue_hu" in leaving.numbers


def test_rare_and_unknown_manufacturers_are_not_told(hospital):
    statistics = replace(site_statistics(hospital, CT), vendors={"GE": 4, "SIEMENS": 7, "OTHER": 9})
    assert disclosed(statistics, min_patients=5).vendors == {"SIEMENS": 10}


@pytest.mark.parametrize(
    ("manufacturer", "name"),
    [("GE MEDICAL SYSTEMS", "GE"), ("Siemens", "SIEMENS"), ("GENERAL^JOHN", "OTHER"), ("", "OTHER"),
     ("TOSHIBA_MEC", "TOSHIBA"), ("Dr. Smith's scanner", "OTHER")],
)  # fmt: skip
def test_manufacturers_leave_under_known_names_only(manufacturer, name):
    assert known_vendor(manufacturer) == name


# --- limits ---

LIMITS = Limits(ranges={"tissue_hu": (-200, 250), "labelled": (1, None)}, doubts={"has_lung": (0.5, None)})


def test_what_is_outside_its_range_is_a_fault_with_its_words():
    (oddity,) = LIMITS.oddities({"tissue_hu": 1063.5, "labelled": 4.0})
    assert oddity.is_fault
    assert oddity.what == "soft tissue is 1064 HU, plausible is -200 to 250 HU"
    assert "rescale" in oddity.quantity.fault


def test_what_only_some_scans_have_is_a_doubt():
    (oddity,) = LIMITS.oddities({"tissue_hu": 40.0, "tissue_hu_high": 1063.5, "tissue_hu_low": 3.0})
    assert not oddity.is_fault
    assert "in a tenth of the scans" in oddity.what


def test_faults_come_first_and_what_cannot_be_told_is_passed_over():
    odd = LIMITS.oddities({"has_lung": 0.0, "labelled": 0.0})
    assert [(o.name, o.is_fault) for o in odd] == [("labelled", True), ("has_lung", False)]
    assert odd[0].what == "number of labelled places is 0, plausible is 1 or more"
    assert LIMITS.oddities({}) == []


@pytest.mark.parametrize("ranges", [{"tisue_hu": (0, 1)}, {"tissue_hu": (5, 1)}, {"tissue_hu": (5,)}])
def test_limits_that_make_no_sense_are_refused(ranges):
    with pytest.raises(BadSetting, match=r"comparison\.limits"):
        Limits(ranges=ranges, doubts={})
