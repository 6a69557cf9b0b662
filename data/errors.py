"""Everything that can be wrong with a hospital's data, by name.

    DataError
    ├─ SourceError                 the folder, table or archive as a whole
    │  ├─ MissingFolder            it is not there
    │  ├─ EmptySource              there, but holds nothing to train on
    │  ├─ BadTable                 a CSV whose columns or values cannot be used
    │  ├─ BadArchive               an .npz without its keys, or whose arrays do not fit together
    │  ├─ BadReading               a reader's XML that cannot be used
    │  └─ UnknownScan              a label, or a caller, names a scan that is not there
    ├─ ScanError                   one scan
    │  ├─ UnreadableScan           not what its name says, or damaged
    │  │  ├─ EmptyFile             zero bytes
    │  │  ├─ TruncatedScan         ends before its voxels do
    │  │  ├─ ChangedFile           is not what it was when headers were read
    │  │  └─ UndecodableScan       in a transfer syntax that nothing here decodes, or damaged inside it
    │  ├─ MissingHeader            a tag without which voxels have no owner, no place or no unit
    │  │  ├─ MissingSeries, MissingPatient, MissingModality
    │  │  ├─ MissingSpacing, MissingPosition
    │  │  └─ MissingRescale
    │  ├─ ContradictoryPatients    one series, several PatientIDs
    │  ├─ LossyImage               compressed with loss, and the hospital did not say that it may be
    │  ├─ BadVoxels                NaN, infinite, or not Hounsfield units in 16 bits
    │  ├─ NotAScan                 is in every export and never a scan: left out unless a label names it
    │  │  ├─ WrongModality         not CT
    │  │  ├─ Localiser             scout views
    │  │  ├─ SecondaryCapture      screenshots
    │  │  ├─ ExamSummary           dose and protocol pages drawn as images
    │  │  ├─ DerivedImage          reformatted, averaged, projected from other images
    │  │  └─ ReportObject          structured reports, dose reports, documents
    │  └─ NotAVolume               its slices do not form a box
    │     ├─ TooFewSlices
    │     ├─ MissingSlice
    │     ├─ UnevenSteps
    │     ├─ DuplicatePosition
    │     ├─ MixedSlices           sizes, orientations or pixel spacings differ
    │     ├─ TiltedStack           slices are shifted against each other, not as a tilted gantry shifts them
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


class BadReading(SourceError):
    code = "bad-reading"


class UnknownScan(SourceError):
    code = "unknown-scan"


class ScanError(DataError):
    code = "scan"


class UnreadableScan(ScanError):
    code = "unreadable-scan"


class EmptyFile(UnreadableScan):
    code = "empty-file"


class TruncatedScan(UnreadableScan):
    code = "truncated-scan"


class ChangedFile(UnreadableScan):
    code = "changed-file"


class UndecodableScan(UnreadableScan):
    code = "undecodable-scan"


class MissingHeader(ScanError):
    code = "missing-header"


class MissingSeries(MissingHeader):
    code = "missing-series"


class MissingPatient(MissingHeader):
    code = "missing-patient"


class MissingModality(MissingHeader):
    code = "missing-modality"


class MissingSpacing(MissingHeader):
    code = "missing-spacing"


class MissingPosition(MissingHeader):
    code = "missing-position"


class MissingRescale(MissingHeader):
    code = "missing-rescale"


class ContradictoryPatients(ScanError):
    code = "contradictory-patients"


class LossyImage(ScanError):
    code = "lossy-image"


class BadVoxels(ScanError):
    code = "bad-voxels"


class NotAScan(ScanError):
    code = "not-a-scan"


class WrongModality(NotAScan):
    code = "wrong-modality"


class Localiser(NotAScan):
    code = "localiser"


class SecondaryCapture(NotAScan):
    code = "secondary-capture"


class ExamSummary(NotAScan):
    code = "exam-summary"


class DerivedImage(NotAScan):
    code = "derived-image"


class ReportObject(NotAScan):
    code = "report-object"


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
