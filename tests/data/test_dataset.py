import tracemalloc

import numpy as np
import pytest

from data.augment import Augment
from data.cache import Cache
from data.dataset import joined, open_crops
from data.errors import BadSetting, CropTooLarge, EmptySource, OutsideScan
from data.luna16 import mhd
from data.luna16.tables import Annotation, CandidateRow, write_annotations, write_candidates
from data.preprocess import Preprocess
from data.samples import Candidate
from data.sources import Cubes, Luna16
from data.volume import CtVolume

WAY = Preprocess(1.0, 8, (-1000, 400))


@pytest.fixture
def source(tmp_path):
    """Two scans with three and one candidates, and one with none; one candidate lies at a corner."""
    rng = np.random.default_rng(0)
    rows = []
    for uid, places in [
        ("1.2", [((0, 0, 0), 0), ((12, 12, 6), 1), ((9, 8, 7), 0)]),
        ("1.1", [((10, 9, 8), 1)]),
        ("1.3", []),
    ]:
        hu = rng.integers(-1000, 400, (16, 20, 22)).astype(np.int16)
        mhd.write(tmp_path / f"{uid}.mhd", CtVolume(hu, (1.25, 1.0, 1.0), (0.0, 0.0, 0.0)))
        rows += [CandidateRow(uid, tuple(map(float, place)), label) for place, label in places]
    write_annotations(tmp_path / "annotations.csv", [Annotation("1.1", (10.0, 9.0, 8.0), 5.0)])
    write_candidates(tmp_path / "candidates.csv", rows)
    (tmp_path / "patients.csv").write_text("seriesuid,patient\n1.1,B\n1.2,A\n1.3,C\n")
    return Luna16(str(tmp_path))


@pytest.fixture
def crops(source, tmp_path):
    return open_crops(source, WAY, Cache(str(tmp_path / "cache")))


def test_crops_are_sorted_by_scan_and_inside_a_scan_as_listed(crops):
    assert len(crops) == 4
    assert crops.labels.tolist() == [1, 0, 1, 0]
    assert crops.labels.dtype == np.int64
    assert crops.patients == ("B", "A", "A", "A")
    assert [ref.uid for ref in crops.scans] == ["1.1", "1.2", "1.2", "1.2"]


def test_a_batch_is_the_crops_that_preprocessing_cuts(crops, source):
    x_BCZYX, y_B = crops.batch([3, 0, 1])
    assert x_BCZYX.shape == (3, 1, 8, 8, 8)
    assert x_BCZYX.dtype == y_B.dtype == np.float32
    assert y_B.tolist() == [0, 1, 0]
    for x_CZYX, index in zip(x_BCZYX, [3, 0, 1], strict=True):
        ref = crops.scans[index]
        prepared = WAY.prepare(source.read(ref))
        candidate = source.candidates(ref)[index - (1 if ref.uid == "1.2" else 0)]
        np.testing.assert_array_equal(x_CZYX[0], WAY.crop(prepared, candidate.centre_xyz_mm))


def test_a_sample_knows_where_it_comes_from(crops):
    sample = crops.sample(2)
    assert (sample.y, sample.patient, sample.scan) == (1, "A", "1.2")
    assert sample.centre_xyz_mm == (12.0, 12.0, 6.0)
    np.testing.assert_array_equal(sample.x_CZYX, crops.batch([2])[0][0])


def test_a_batch_is_augmented_as_each_crop_would_be(crops):
    augment = Augment(intensity=0.2, shift=0.1)
    x_BCZYX, _ = crops.batch([1, 2, 0], augment=augment, rng=np.random.default_rng(5))
    rng = np.random.default_rng(5)
    for x_CZYX, index in zip(x_BCZYX, [1, 2, 0], strict=True):
        alone = augment.apply(crops.batch([index])[0][0, 0], augment.draw(rng))
        np.testing.assert_allclose(x_CZYX[0], alone, atol=1e-6)


def test_the_same_generator_gives_the_same_batch(crops):
    first, again, other = (
        crops.batch([0, 1, 2, 3], augment=Augment(intensity=0.1), rng=np.random.default_rng(seed))[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_augmentation_without_a_generator_is_refused(crops):
    with pytest.raises(ValueError, match="rng"):
        crops.batch([0], augment=Augment())


def test_batches_are_new_arrays(crops):
    crops.batch([0, 1])[0][:] = 7.0
    assert crops.batch([0, 1])[0].max() <= 1.0


def test_a_subset_is_these_crops_in_this_order(crops):
    subset = crops.subset([2, 0])
    assert subset.patients == ("A", "B")
    assert subset.labels.tolist() == [1, 1]
    np.testing.assert_array_equal(subset.batch([0, 1])[0], crops.batch([2, 0])[0])
    np.testing.assert_array_equal(subset.subset(np.array([1])).batch([0])[0], crops.batch([0])[0])
    assert len(crops.subset([])) == 0
    assert crops.subset([]).batch([])[0].shape == (0, 1, 8, 8, 8)


def test_hospitals_joined_are_all_crops_of_the_one_and_then_of_the_other(crops):
    pooled = joined([crops.subset([2]), crops, crops.subset([0, 1])])
    order = [2, 0, 1, 2, 3, 0, 1]
    assert pooled.labels.tolist() == crops.labels[order].tolist()
    assert pooled.patients == tuple(crops.patients[i] for i in order)
    np.testing.assert_array_equal(pooled.batch(range(7))[0], crops.batch(order)[0])


def test_crops_that_were_prepared_in_two_ways_cannot_be_joined(crops, source):
    with pytest.raises(BadSetting, match="same way"):
        joined([crops, open_crops(source, Preprocess(2.0, 8, (-1000, 400)), None)])


def test_with_a_cache_or_without_one_the_crops_are_the_same(crops, source):
    np.testing.assert_array_equal(open_crops(source, WAY, None).batch(range(4))[0], crops.batch(range(4))[0])


def test_progress_counts_the_labelled_scans(source):
    told = []
    open_crops(source, WAY, None, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


def test_cubes_in_memory_are_not_copied_to_disk(tmp_path):
    cubes = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=cubes, y=np.array([0, 1, 0]))
    crops = open_crops(Cubes(str(tmp_path / "a.npz")), Preprocess(None, 8, (0, 255)), Cache(str(tmp_path / "cache")))
    np.testing.assert_allclose(crops.batch(range(3))[0][:, 0] * 255, cubes, atol=1e-4)
    assert not (tmp_path / "cache").exists()


def test_cubes_in_memory_are_not_kept_there_twice(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((100, 32, 32, 32), np.uint8), y=np.arange(100) % 2)
    source = Cubes(str(tmp_path / "a.npz"))
    assert len(source.scans()) == 100  # the archive has been read
    tracemalloc.start()
    crops = open_crops(source, Preprocess(None, 32, (0, 255)), None)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert crops.batch([99])[0].shape == (1, 1, 32, 32, 32)
    assert held < 100 * 32**3 / 10


def test_a_label_outside_its_scan_is_refused_with_the_scan(source, tmp_path):
    with (tmp_path / "candidates.csv").open("a") as file:
        file.write("1.1,500.0,0.0,0.0,0\n")
    with pytest.raises(OutsideScan, match=r"scan 1\.1: \(500\.0"):
        open_crops(source, WAY, None)


def test_a_crop_larger_than_a_scan_is_refused_with_the_scan(source):
    with pytest.raises(CropTooLarge, match=r"scan 1\.1"):
        open_crops(source, Preprocess(1.0, 64, (-1000, 400)), None)


def test_a_hospital_without_a_labelled_place_is_refused(tmp_path, phantom):
    mhd.write(tmp_path / "1.1.mhd", phantom)
    write_annotations(tmp_path / "annotations.csv", [])
    with pytest.raises(EmptySource, match="Luna16 with 1 scans: no labelled place"):
        open_crops(Luna16(str(tmp_path)), WAY, None)


def test_the_real_nodule_is_in_the_middle_of_its_crop(real_data, tmp_path):
    from data.sources import DicomFolder

    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.154677396354641150280013275227"
    (tmp_path / "labels.csv").write_text(f"series_uid,x_mm,y_mm,z_mm,label\n{uid},-57.439,131.233,-520.359,1\n")
    source = DicomFolder(str(real_data / "lidc-idri-0314/dicom"), labels=str(tmp_path / "labels.csv"))
    crops = open_crops(source, Preprocess(1.0, 48, (-1000, 400)), None)
    assert source.candidates(source.scans()[0]) == [Candidate((-57.439, 131.233, -520.359), 1, None)]
    x_ZYX = crops.sample(0).x_CZYX[0]
    middle, rim = x_ZYX[22:27, 22:27, 22:27].mean(), x_ZYX[:, :6].mean()
    assert middle > 0.6  # soft tissue: 0 HU is 0.71
    assert rim < 0.5  # mostly lung
