"""Values of single DICOM elements, straight from their bytes.

pydicom finds the elements; converting them here costs a tenth of its own conversion, remembers what is the same in
all slices of a series, and answers damaged values with "nothing" instead of one of a dozen exceptions.
"""

import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.valuerep import AMBIGUOUS_VR, STANDARD_VR

from data.errors import UnreadableScan

PARSER_ERRORS = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError,
    AssertionError, MemoryError, struct.error, zlib.error, BytesLengthException, InvalidDicomError,
)  # fmt: skip
"""What pydicom and its decoders raise on damaged bytes."""

_BLANK = b" \0"

_READABLE = frozenset({None, *STANDARD_VR, *AMBIGUOUS_VR})
"""Value representations; None: the file does not write them (Implicit VR)."""


@contextmanager
def parsing(file: Path, *, as_error: type[UnreadableScan] = UnreadableScan) -> Iterator[None]:
    """Any complaint of the parser as ours, with the file; its warnings are left unsaid."""
    with warnings.catch_warnings():
        # pydicom warns of values that break a rule of the standard; those that matter here are checked by name.
        warnings.simplefilter("ignore")
        try:
            yield
        except PARSER_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise as_error(f"{file}: cannot be read ({reason}); export the series again, uncompressed") from error


def text(dataset: Dataset, keyword: str) -> str:
    """A text value without the blanks around it; "" where it is absent or empty."""
    raw = _raw(dataset, keyword)
    if isinstance(raw, bytes):
        return _ascii(raw) if raw.isascii() and b"\x1b" not in raw else _decoded(dataset, keyword)
    return "" if raw is None else _printable(str(raw))


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a code string, upper case."""
    raw = _raw(dataset, keyword)
    if raw is not None and not isinstance(raw, bytes | str):
        return tuple(str(word).strip().upper() for word in raw)
    return _split(text(dataset, keyword))


def decimals(dataset: Dataset, keyword: str) -> tuple[float, ...] | None:
    """Numbers written as text (DS, IS); None where absent or empty, () where they are no finite numbers."""
    raw = _raw(dataset, keyword)
    if not isinstance(raw, bytes):
        return _converted(raw)
    return _parsed(raw) if raw.strip(_BLANK) else None


def decimal(dataset: Dataset, keyword: str) -> float | None:
    """One number written as text; None where absent, or not one finite number."""
    numbers = decimals(dataset, keyword)
    return numbers[0] if numbers and len(numbers) == 1 else None


def short(dataset: Dataset, keyword: str, *, is_signed: bool = False) -> int | None:
    """A 16-bit number (US, SS); None where absent or not of two bytes."""
    element = _element(dataset, keyword)
    raw = getattr(element, "value", None)
    if isinstance(raw, int):
        return (raw & 0xFFFF) - (0x10000 if is_signed and raw & 0x8000 else 0)
    if not isinstance(raw, bytes) or len(raw) != 2:
        return None
    is_little: bool = getattr(element, "is_little_endian", True)
    return int.from_bytes(raw, "little" if is_little else "big", signed=is_signed)


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none where it is absent."""
    found = dataset.get(keyword)
    return [item for item in found if isinstance(item, Dataset)] if found else []


@lru_cache(maxsize=512)
def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword!r} is no keyword of DICOM")
    return BaseTag(tag)


def _raw(dataset: Dataset, keyword: str) -> Any:
    return getattr(_element(dataset, keyword), "value", None)


def _element(dataset: Dataset, keyword: str) -> Any:
    """As pydicom found it: not converted, unless it lies in a sequence. Raises ValueError where its VR is none."""
    element: Any = dataset.get_item(_tag(keyword))
    if isinstance(element, RawDataElement) and element.VR not in _READABLE:
        # Its bytes may look sound; but nobody can say what they were before the two that are damaged.
        raise ValueError(f"{keyword} is of the type {element.VR!r}, which DICOM does not have")
    return element


@lru_cache(maxsize=512)
def _split(whole: str) -> tuple[str, ...]:
    return tuple(word.strip().upper() for word in whole.split("\\")) if whole else ()


@lru_cache(maxsize=4096)
def _ascii(raw: bytes) -> str:
    return _printable(raw.decode("ascii"))


def _printable(value: str) -> str:
    """Without the blanks around it; a message with a value in it must stay one line."""
    stripped = value.strip(" \0")
    return stripped if stripped.isprintable() else "".join(c if c.isprintable() else "?" for c in stripped)


def _decoded(dataset: Dataset, keyword: str) -> str:
    """Text in the file's own character set."""
    value = dataset.get(keyword)
    parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return _printable("\\".join(str(part) for part in parts))


@lru_cache(maxsize=4096)
def _parsed(raw: bytes) -> tuple[float, ...]:
    try:
        return _finite(float(part.strip(_BLANK)) for part in raw.split(b"\\"))
    except ValueError:
        return ()


def _converted(value: Any) -> tuple[float, ...] | None:
    """Of a value that pydicom has converted already (inside sequences)."""
    if value is None or value == "":
        return None
    try:
        return _finite(float(v) for v in ([value] if isinstance(value, str | int | float) else value))
    except (TypeError, ValueError):
        return ()


def _finite(numbers: Iterable[float]) -> tuple[float, ...]:
    found = tuple(numbers)
    return found if all(abs(number) < float("inf") for number in found) else ()
