"""A file's slices: one for CT Image Storage, one a frame for Enhanced and Legacy Converted Enhanced CT.

Enhanced objects keep what belongs to a slice in functional groups, either shared by all frames or a frame's own
(PS3.3 A.38, C.7.6.16). Where a group is absent the top of the data set is asked, as for any other file: converters
leave things there.
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset

from data.dicom.elements import decimal, decimals, items, text, words
from data.dicom.plane import FileHeader, Plane

_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "FilterType": "CTReconstructionSequence",
    "ReconstructionDiameter": "CTReconstructionSequence",
}

_RECONSTRUCTION = ("ConvolutionKernel", "SliceThickness", "FilterType", "ReconstructionDiameter")


def planes_of(tags: Dataset, header: FileHeader) -> list[Plane]:
    """The slices of one file, in its own order.

    Raises:
        ValueError: as many functional groups as frames is what the file should have, and has not.
    """
    frames = items(tags, "PerFrameFunctionalGroupsSequence")
    if not frames:
        return [_plane(header, 0, [tags])]
    if len(frames) != header.frames:
        raise ValueError(f"{header.frames} frames, functional groups of {len(frames)}")
    shared = items(tags, "SharedFunctionalGroupsSequence")[:1]
    return [_plane(header, k, [frame, *shared, tags]) for k, frame in enumerate(frames)]


def _plane(header: FileHeader, frame: int, places: Sequence[Dataset]) -> Plane:
    """`places`: where to look, the frame's own groups first."""
    top = places[-1]
    is_enhanced = len(places) > 1
    where = {name: _holder(places, name) if is_enhanced else top for name in _GROUP_OF}
    frame_type = words(where["FrameType"], "FrameType") if is_enhanced else ()
    number = text(where["FrameAcquisitionNumber"], "FrameAcquisitionNumber") if is_enhanced else ""
    stack = text(where["StackID"], "StackID") if is_enhanced else ""
    return Plane(
        header=header,
        frame=frame,
        image_type=frame_type or words(top, "ImageType"),
        position_xyz_mm=decimals(where["ImagePositionPatient"], "ImagePositionPatient"),
        orientation=decimals(where["ImageOrientationPatient"], "ImageOrientationPatient"),
        spacing_yx_mm=decimals(where["PixelSpacing"], "PixelSpacing"),
        slope=decimal(where["RescaleSlope"], "RescaleSlope"),
        intercept=decimal(where["RescaleIntercept"], "RescaleIntercept"),
        acquisition=(
            number or text(top, "AcquisitionNumber"),
            stack,
            text(where["TemporalPositionIndex"], "TemporalPositionIndex"),
        ),
        reconstruction=tuple(text(where[name], name) for name in _RECONSTRUCTION),
    )


def _holder(places: Sequence[Dataset], name: str) -> Dataset:
    """The item that holds an element: of the frame's own group, else of the shared one, else the top."""
    *groups, top = places
    for group in groups:
        if (held := items(group, _GROUP_OF[name])) and name in held[0]:
            return held[0]
    return top
