"""A record of many arrays as a record of one.

Flower's runtime signs, sends and stores two objects for every array of a message, each by a request of its own, which
for a hundred small tensors takes longer than training on them.
"""

import json

from flwr.app import Array, ArrayRecord

from strategies.errors import RecordError

NUMPY = "numpy.ndarray"
"""Flower's name for an array of `.npy` bytes."""

PACKED = "fedvox.packed"
"""Our name for a record's only array that holds several: an index, then the bytes of each."""

ALIGNED = 64
"""Tensors in a packed record begin at multiples of this, as numpy's own headers see to."""


def pack(record: ArrayRecord) -> ArrayRecord:
    """The same as one array, with a copy; as it is where there is nothing to gain, or it is not numpy's alone."""
    if len(record) < 2 or any(array.stype != NUMPY for array in record.values()):
        return record
    index = json.dumps({name: len(array.data) for name, array in record.items()}).encode()
    pieces = [len(index).to_bytes(8, "little"), index]
    end = 8 + len(index)
    for array in record.values():
        gap = -end % ALIGNED
        pieces += [bytes(gap), array.data]
        end += gap + len(array.data)
    data = b"".join(pieces)
    return ArrayRecord({PACKED: Array("uint8", (len(data),), PACKED, data)})


def is_packed(record: ArrayRecord) -> bool:
    """Whether its only array holds several."""
    return len(record) == 1 and PACKED in record and record[PACKED].stype == PACKED


def unpacked(record: ArrayRecord) -> dict[str, memoryview]:
    """Each array's `.npy` bytes by its name, in a record that `is_packed`; without a copy.

    Raises:
        RecordError: its index or its bytes are not whole.
    """
    whole = memoryview(record[PACKED].data)
    start, sizes = _index(whole)
    parts = {}
    for name, size in sizes.items():
        start += -start % ALIGNED
        if size < 0 or start + size > len(whole):
            raise RecordError(f"tensor {name!r} of a packed record has {size} bytes at {start}, of {len(whole)}")
        parts[name] = whole[start : start + size]
        start += size
    return parts


def _index(whole: memoryview) -> tuple[int, dict[str, int]]:
    """Where the first array may begin, and the size of each."""
    end = 8 + int.from_bytes(whole[:8], "little")
    try:
        return end, {str(name): int(size) for name, size in json.loads(bytes(whole[8:end])).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordError(f"the index of a packed record cannot be read: {error}") from error
