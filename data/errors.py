"""Everything that can be wrong with a hospital's data, by name.

    DataError
    ├─ SourceError                 the folder, table or archive as a whole
    │  ├─ MissingFolder            it is not there
    │  ├─ EmptySource              there, but holds nothing to train on
    │  ├─ BadTable                 a CSV whose columns or values cannot be used
    │  ├─ BadArchive               an .npz without its keys, or whose arrays do not fit together
    │  └─ UnknownScan              a label, or a caller, names a scan that is not there
    ├─ ScanError                   one scan
    │  ├─ UnreadableScan           truncated, not what its name says, undecodable
    │  ├─ MissingHeader            a tag without which voxels have no place or no unit
    │  ├─ WrongModality            not CT
    │  ├─ BadVoxels                NaN, infinite, or not Hounsfield units in 16 bits
    │  └─ NotAVolume               its slices do not form a box
    │     ├─ TooFewSlices
    │     ├─ MissingSlice
    │     ├─ UnevenSteps
    │     ├─ DuplicatePosition
    │     ├─ MixedSlices           sizes, orientations or pixel spacings differ
    │     ├─ TiltedStack           slices are shifted against each other (gantry tilt)
    │     └─ BrokenGeometry        directions or spacings that are no geometry at all
    ├─ PlaceError                  a place in a scan
    │  ├─ OutsideScan
    │  └─ CropTooLarge
    ├─ CacheError                  prepared scans on disk
    │  ├─ CacheFull
    │  └─ BadCacheEntry
    ├─ PartitionError              patients cannot be shared out as asked
    └─ BadSetting                  a parameter that makes no sense

A message is one line: what, where, what was found, what to do. It may name files and UIDs and is for the hospital's
own eyes; what leaves the hospital is `code`, which never changes.
"""

from typing import ClassVar


class DataError(Exception):
    code: ClassVar[str] = "data"


class SourceError(DataError):
    code = "source"


class MissingFolder(SourceError):
    code = "missing-folder"


class EmptySource(SourceError):
    code = "empty-source"


class BadTable(SourceError):
    code = "bad-table"


class BadArchive(SourceError):
    code = "bad-archive"


class UnknownScan(SourceError):
    code = "unknown-scan"


class ScanError(DataError):
    code = "scan"


class UnreadableScan(ScanError):
    code = "unreadable-scan"


class MissingHeader(ScanError):
    code = "missing-header"


class WrongModality(ScanError):
    code = "wrong-modality"


class BadVoxels(ScanError):
    code = "bad-voxels"


class NotAVolume(ScanError):
    code = "not-a-volume"


class TooFewSlices(NotAVolume):
    code = "too-few-slices"


class MissingSlice(NotAVolume):
    code = "missing-slice"


class UnevenSteps(NotAVolume):
    code = "uneven-steps"


class DuplicatePosition(NotAVolume):
    code = "duplicate-position"


class MixedSlices(NotAVolume):
    code = "mixed-slices"


class TiltedStack(NotAVolume):
    code = "tilted-stack"


class BrokenGeometry(NotAVolume):
    code = "broken-geometry"


class PlaceError(DataError):
    code = "place"


class OutsideScan(PlaceError):
    code = "outside-scan"


class CropTooLarge(PlaceError):
    code = "crop-too-large"


class CacheError(DataError):
    code = "cache"


class CacheFull(CacheError):
    code = "cache-full"


class BadCacheEntry(CacheError):
    code = "bad-cache-entry"


class PartitionError(DataError):
    code = "partition"


class BadSetting(DataError):
    code = "bad-setting"
