"""One slice as its header describes it: plain values, nothing checked yet."""

from dataclasses import dataclass
from pathlib import Path

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of a file are stored (PS3.3 C.7.6.3); None, or "", where the header does not say."""

    rows: int | None
    columns: int | None
    samples: int | None
    photometric: str
    bits_allocated: int | None
    bits_stored: int | None
    high_bit: int | None
    representation: int | None
    """0 unsigned, 1 signed."""
    padding: int | None
    padding_limit: int | None


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What all slices of one file share; text without blanks, "" where the header has none."""

    path: Path
    size: int
    changed_ns: int
    syntax: str
    """TransferSyntaxUID (0002,0010); where a file has no meta group, the native one that its bytes are in."""
    sop_class: str
    sop_uid: str
    series_uid: str
    patient: str
    manufacturer: str
    modality: str
    series_number: str
    series_description: str
    lossy: str
    """LossyImageCompression (0028,2110): 00 or 01."""
    layout: Layout
    frames: int
    pixels_at: int | None
    """Where the pixels begin, in uncompressed little endian files; None elsewhere."""
    pixels_bytes: int
    """How many bytes of pixels such a file announces."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice: a file, or one frame of a file. None where the header says nothing, () where it says no numbers."""

    header: FileHeader
    frame: int
    image_type: tuple[str, ...]
    position_xyz_mm: Numbers | None
    """Centre of the first voxel (ImagePositionPatient (0020,0032))."""
    orientation: Numbers | None
    """Directions of increasing column index, then of increasing row index (ImageOrientationPatient (0020,0037))."""
    spacing_yx_mm: Numbers | None
    """Distance of row centres, of column centres (PixelSpacing (0028,0030))."""
    slope: float | None
    intercept: float | None
    acquisition: tuple[str, ...]
    """AcquisitionNumber (0020,0012) and phase, where one series holds several."""
    reconstruction: tuple[str, ...]
    """Kernel, thickness, filter, field of view."""

    @property
    def name(self) -> str:
        """For messages: the file, and the frame where it holds several."""
        return f"{self.header.path}" + (f" frame {self.frame + 1}" if self.header.frames > 1 else "")
