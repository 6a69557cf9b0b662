import numpy as np
import pytest

from data.dicom import read_series
from data.errors import DerivedImage, ExamSummary, Localiser, NotAScan, ReportObject, SecondaryCapture, WrongModality

HU = np.zeros((3, 4, 5), np.int16)


def tagged(**values):
    def alter(dataset, z):
        for name, value in values.items():
            setattr(dataset, name, value)

    return alter


@pytest.mark.parametrize(
    "values, error, says",
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Localiser, r"ORIGINAL\\PRIMARY\\LOCALIZER"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "TOPOGRAM"]}, Localiser, "flat view"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, SecondaryCapture, "screenshot"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2", "Modality": "OT"}, SecondaryCapture, "screenshot"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, ExamSummary, "SCREEN SAVE"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "OTHER", "CT_SOM5 PROT"]}, ExamSummary, "PROT"),
        ({"SeriesDescription": "Exam Summary"}, ExamSummary, "EXAM SUMMARY"),
        ({"SeriesDescription": "Dose Report"}, ExamSummary, "DOSE REPORT"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, DerivedImage, r"accept: \[derived-image\]"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, DerivedImage, "not measured"),
        ({"ImageType": ["ORIGINAL", "SECONDARY", "REFORMATTED"]}, DerivedImage, "REFORMATTED"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"}, ReportObject, "report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "Modality": "DOC"}, ReportObject, "document"),
        ({"Modality": "PT"}, WrongModality, "'PT'"),
    ],
)
def test_what_lies_beside_the_scans_is_told_apart_by_name(write_series, tmp_path, values, error, says):
    with pytest.raises(error, match=says) as found:
        read_series(write_series(tmp_path, HU, alter=tagged(**values)))
    assert isinstance(found.value, NotAScan)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "image_type",
    [["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"], ["ORIGINAL", "SECONDARY", "AXIAL"], ["ORIGINAL", "PRIMARY"]],
)
def test_an_original_slice_is_one_whatever_its_vendor_adds(write_series, tmp_path, image_type):
    assert read_series(write_series(tmp_path, HU, alter=tagged(ImageType=image_type))).hu_ZYX.shape == (3, 4, 5)


def test_one_page_among_the_slices_is_found(write_series, tmp_path):
    def alter(dataset, z):
        if z == 1:
            dataset.ImageType = ["DERIVED", "SECONDARY", "MPR"]

    with pytest.raises(DerivedImage, match=r"slice001\.dcm"):
        read_series(write_series(tmp_path, HU, alter=alter))


def test_a_derived_series_can_be_accepted_by_name(write_series, tmp_path):
    paths = write_series(tmp_path, HU, alter=tagged(ImageType=["DERIVED", "SECONDARY", "AXIAL"]))
    assert read_series(paths, accept=["derived-image"]).hu_ZYX.shape == (3, 4, 5)


def test_what_lossy_compression_made_derived_is_a_question_of_loss(write_series, tmp_path):
    from data.errors import LossyImage

    paths = write_series(
        tmp_path, HU, alter=tagged(ImageType=["DERIVED", "PRIMARY", "AXIAL"], LossyImageCompression="01")
    )
    with pytest.raises(LossyImage):
        read_series(paths)
    volume = read_series(paths, accept=["lossy-image"])
    assert volume.provenance == ("lossy compression",)
