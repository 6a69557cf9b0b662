"""Scanner manufacturers under the few names that may leave a hospital: a header may hold anything."""

from collections import Counter
from collections.abc import Iterable

from data.samples import ScanRef

KNOWN = ("GE", "SIEMENS", "PHILIPS", "TOSHIBA", "CANON", "HITACHI", "FUJIFILM", "UIH", "NEUSOFT", "SAMSUNG", "SHIMADZU")
OTHER = "OTHER"
"""Whatever is not in the list, and scanners that do not say."""


def known_vendor(manufacturer: str) -> str:
    """The known name that a manufacturer's begins with; `OTHER` where none does."""
    words = manufacturer.upper().replace("_", " ").split()
    return words[0] if words and words[0] in KNOWN else OTHER


def vendors(scans: Iterable[ScanRef]) -> dict[str, int]:
    """How many patients each scanned, by known name."""
    return dict(sorted(Counter(name for _, name in {(s.patient, known_vendor(s.scanner)) for s in scans}).items()))
