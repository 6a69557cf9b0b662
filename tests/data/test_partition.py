from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import PartitionError
from data.partition import (
    ByScanner,
    BySize,
    Case,
    Dirichlet,
    Shares,
    cases_of,
    folds,
    hospitals_of,
    official_folds,
    split,
)
from data.samples import ScanRef
from data.sources import Cubes

names = st.lists(st.text("abcdefgh0123", min_size=1, max_size=5), min_size=1, max_size=60, unique=True)
cohorts = st.lists(
    st.builds(Case, st.integers(0, 30).map("P{}".format), st.integers(0, 1), st.sampled_from(["GE", "SIEMENS"])),
    min_size=40, max_size=120,
)  # fmt: skip

MANY = [f"patient {i}" for i in range(4000)]
COHORT = [
    Case(f"P{i % 300}", int(np.random.default_rng(i).random() < 0.3), "GE" if i % 300 < 200 else "SIEMENS")
    for i in range(700)
]


def test_purposes_meet_their_shares_on_many_patients():
    purposes = Counter(split(MANY, key="k", test=0.2, validation=0.1).values())
    # Binomial: 4,000 patients, three standard deviations are 0.019 and 0.014.
    assert purposes["test"] / 4000 == pytest.approx(0.2, abs=0.019)
    assert purposes["validation"] / 4000 == pytest.approx(0.1, abs=0.014)


@given(names, st.data())
def test_a_patients_purpose_does_not_depend_on_the_others(patients, data):
    some = data.draw(st.lists(st.sampled_from(patients), unique=True))
    everyone = split(patients, key="k", test=0.3, validation=0.2)
    assert split(some, key="k", test=0.3, validation=0.2) == {patient: everyone[patient] for patient in some}


def test_another_key_gives_another_split():
    one, other = (split(MANY, key=key, test=0.5, validation=0.0) for key in ("k", "l"))
    agree = sum(one[patient] == other[patient] for patient in MANY) / len(MANY)
    assert agree == pytest.approx(0.5, abs=0.024)


def test_a_growing_test_share_only_adds_patients():
    small, large = (split(MANY, key="k", test=test, validation=0.0) for test in (0.1, 0.3))
    assert {p for p in MANY if small[p] == "test"} < {p for p in MANY if large[p] == "test"}


def test_the_split_is_the_same_on_every_machine():
    # hmac.new(b"k", b"a", "sha256").hexdigest() begins with 78da91511e675587: u = 0.472; of b"b" with 2fb3…: u = 0.186.
    assert split(["a", "b"], key="k", test=0.3, validation=0.3) == {"a": "validation", "b": "test"}


@pytest.mark.parametrize("test, validation", [(-0.1, 0.1), (0.5, 0.5), (0.2, 0.9)])
def test_shares_that_leave_nothing_to_train_on_are_refused(test, validation):
    with pytest.raises(PartitionError, match="train"):
        split(["a"], key="k", test=test, validation=validation)


@given(cohorts, st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_every_patient_is_in_one_fold_and_no_fold_is_empty(cases, n, seed):
    patients = {case.patient for case in cases}
    if len(patients) < n:
        return
    fold_of = folds(cases, n=n, seed=seed)
    assert set(fold_of) == patients
    assert set(fold_of.values()) == set(range(n))
    assert fold_of == folds(cases[::-1], n=n, seed=seed)


def test_folds_are_even_in_scanners_labels_and_patients():
    fold_of = folds(COHORT, n=5, seed=0)
    strata = Counter((fold_of[case.patient], case.scanner, case.label) for case in COHORT)
    for stratum in {(case.scanner, case.label) for case in COHORT}:
        counts = [strata[(fold, *stratum)] for fold in range(5)]
        assert max(counts) - min(counts) <= 3
    patients = Counter(fold_of.values())
    assert max(patients.values()) - min(patients.values()) <= 2


def test_a_patient_of_many_crops_does_not_leave_a_fold_with_few_patients():
    # Even in crops alone, the fold of the big patient would get 10 of the 40 others, and 11 patients against 30.
    cases = [Case("big", 0)] * 20 + [Case(f"P{i}", 0) for i in range(40)]
    patients = Counter(folds(cases, n=2, seed=0).values())
    assert min(patients.values()) >= 15


def test_another_seed_gives_other_folds():
    assert folds(COHORT, n=5, seed=0) != folds(COHORT, n=5, seed=1)


@pytest.mark.parametrize("n", [1, 301])
def test_more_folds_than_patients_are_refused(n):
    with pytest.raises(PartitionError, match="300 patients"):
        folds(COHORT, n=n, seed=0)


partitions = st.one_of(
    st.builds(Shares, st.just({"a": 0.4, "b": 0.3, "c": 0.3}), seed=st.integers(0, 99)),
    st.just(ByScanner()),
    st.builds(Dirichlet, st.just(["a", "b", "c"]), st.floats(0.5, 50), seed=st.integers(0, 99)),
)


@given(partitions)
@settings(deadline=None)
def test_every_patient_is_in_exactly_one_hospital(partition):
    held = partition.assign(COHORT)
    everyone = [patient for patients in held.values() for patient in patients]
    assert len(everyone) == len(set(everyone))
    assert set(everyone) == {case.patient for case in COHORT}
    assert held == partition.assign(COHORT[::-1])


def test_shares_are_met_to_the_patient():
    held = Shares({"a": 0.4, "b": 0.3, "c": 0.3}, seed=1).assign(COHORT)
    assert {name: len(patients) for name, patients in held.items()} == {"a": 120, "b": 90, "c": 90}
    assert held != Shares({"a": 0.4, "b": 0.3, "c": 0.3}, seed=2).assign(COHORT)


def test_sizes_fall_from_the_largest_to_the_smallest():
    sizes = {name: len(patients) for name, patients in BySize(("a", "b", "c"), ratio=4.0).assign(COHORT).items()}
    assert sizes == {"a": 171, "b": 86, "c": 43}  # 300 patients in the ratio 4 : 2 : 1
    assert {len(patients) for patients in BySize(("a", "b"), ratio=1.0).assign(COHORT).values()} == {150}


def test_official_folds_are_the_data_set_s_own():
    refs = [ScanRef("1", "A", fold=3), ScanRef("2", "A", fold=3), ScanRef("3", "B", fold=0)]
    assert official_folds(refs) == {"A": 3, "B": 0}


@pytest.mark.parametrize(
    ("refs", "says"),
    [
        ([ScanRef("1", "A")], "scan 1 is in no official fold"),
        ([ScanRef("1", "A", fold=0), ScanRef("2", "A", fold=1)], "scan 2 is in official folds 0 and 1"),
    ],
)
def test_a_data_set_without_official_folds_is_named(refs, says):
    with pytest.raises(PartitionError, match=says):
        official_folds(refs)


def test_a_patient_of_two_scanners_goes_where_most_of_the_cases_are():
    cases = [
        Case("A", 0, "GE"),
        Case("A", 0, "SIEMENS"),
        Case("A", 1, "SIEMENS"),
        Case("B", 0, "GE"),
        Case("C", 0, "GE"),
        Case("C", 0, "SIEMENS"),
    ]
    assert ByScanner().assign(cases) == {"ge": ("B", "C"), "siemens": ("A",)}


def test_scanners_can_share_a_hospital():
    held = ByScanner({"GE": "north", "SIEMENS": "north"}).assign(COHORT)
    assert {name: len(patients) for name, patients in held.items()} == {"north": 300}
    assert ByScanner({"Ge": "east"}).assign([Case("A", 0, "GE MEDICAL SYSTEMS")]) == {"east": ("A",)}
    with pytest.raises(PartitionError, match="'GEMINI' has no hospital"):
        ByScanner({"Ge": "east"}).assign([Case("A", 0, "GEMINI")])
    with pytest.raises(PartitionError, match="'SIEMENS' has no hospital"):
        ByScanner({"GE": "north"}).assign(COHORT)


def test_a_small_alpha_skews_labels_and_a_large_one_does_not():
    def skew(alpha):
        positive = {case.patient for case in COHORT if case.label}
        rates = []
        for seed in range(20):
            held = Dirichlet(["a", "b", "c"], alpha, seed=seed).assign(COHORT)
            rates += [len(positive.intersection(patients)) / len(patients) for patients in held.values()]
        return float(np.std(rates))

    assert skew(0.3) > 3 * skew(100.0)


@given(st.integers(0, 10_000), st.sampled_from([1, 10, 40]))
@settings(max_examples=30, deadline=None)
def test_every_hospital_of_a_skewed_draw_has_the_fewest_patients_wanted(seed, fewest):
    held = Dirichlet("abcd", 0.1, seed=seed, fewest=fewest).assign(COHORT)
    assert min(map(len, held.values())) >= fewest


def test_a_draw_that_gives_everyone_enough_stands_whatever_else_was_wanted():
    for seed in range(20):
        first = Dirichlet("abc", 0.3, seed=seed, fewest=1).assign(COHORT)
        again = Dirichlet("abc", 0.3, seed=seed, fewest=10).assign(COHORT)
        assert (first == again) == (min(map(len, first.values())) >= 10)


@pytest.mark.parametrize(
    "partition, says",
    [
        (Shares({}), "positive share"),
        (Shares({"a": 1.0, "b": 0.0}), "positive share"),
        (BySize(("a", "b"), 0.5), "partition.ratio is 0.5"),
        (BySize((), 2.0), "over 0 hospitals"),
        (Shares({"a": 1.0, "b": 1e-9}), "hospital b would get no patient"),
        (Dirichlet(["a"], -1.0), "positive"),
        (Dirichlet([], 1.0), "positive"),
        (Dirichlet(["a"], 1.0, fewest=0), "partition.fewest 0; all positive"),
        (Dirichlet(["a", "b"], 1.0, fewest=200), "fewer than 200; lower partition.fewest"),
    ],
)
def test_partitions_that_cannot_be_are_refused(partition, says):
    with pytest.raises(PartitionError, match=says):
        partition.assign(COHORT)


def test_a_source_is_shared_out_whole(tmp_path):
    x = np.zeros((30, 3, 3, 3), np.uint8)
    patients = np.array([f"P{i // 2}" for i in range(30)])
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(30) % 2, patient=patients, vendor=np.repeat(["GE", "SIEMENS"], 15))
    source = Cubes(str(tmp_path / "a.npz"))
    hospitals = hospitals_of(source, Shares({"a": 0.5, "b": 0.5}))
    assert sorted(ref.uid for share in hospitals.values() for ref in share.scans()) == [
        ref.uid for ref in source.scans()
    ]
    assert len(cases_of(source)) == 30


def test_the_two_patients_on_both_sides_of_the_published_split_are_kept_together(real_data):
    source = Cubes(str(real_data / "lidc-nodules/lidc_nodules_32.npz"))
    fold_of = folds(cases_of(source), n=5, seed=0)
    sizes = Counter(fold_of[ref.patient] for ref in source.scans())
    assert sum(sizes.values()) == 882
    assert max(sizes.values()) - min(sizes.values()) <= 4
