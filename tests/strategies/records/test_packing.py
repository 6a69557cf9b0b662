import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from strategies.errors import RecordError
from strategies.records.arrays import from_record, names_in, to_record
from strategies.records.packing import PACKED, pack
from tests.strategies.fakes import vector

SEVERAL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "none": np.zeros((0, 2), np.float16)}


def test_a_packed_record_is_one_array_of_the_same_tensors_and_shares_its_bytes():
    record = pack(to_record(SEVERAL))
    assert len(record) == 1
    assert names_in(record) == list(SEVERAL)
    back = from_record(record)
    assert back.keys() == SEVERAL.keys()
    for name, tensor in SEVERAL.items():
        assert back[name].dtype == tensor.dtype
        np.testing.assert_array_equal(back[name], tensor)
    whole = np.frombuffer(next(iter(record.values())).data, np.uint8)
    assert np.shares_memory(back["w"], whole)
    assert not back["w"].flags.writeable
    assert back["w"].flags.aligned


def test_tensors_that_are_packed_differently_are_different_objects_and_the_same_ones_are_one():
    one, same = (pack(to_record(SEVERAL)) for _ in range(2))
    other = pack(to_record(SEVERAL | {"n": np.array(8)}))
    assert one.object_id == same.object_id != other.object_id


@pytest.mark.parametrize("record", [ArrayRecord(), to_record(vector(1))], ids=["empty", "single"])
def test_where_nothing_is_to_be_gained_a_record_stays_as_it_is(record):
    assert pack(record) is record


@pytest.mark.parametrize(
    ("cut", "put"), [(slice(None, 4), b""), (slice(None, -200), b""), (slice(8), b"{"), (slice(8), b'["w"]')]
)
def test_a_packed_record_that_was_tampered_with_is_refused(cut, put):
    data = next(iter(pack(to_record(SEVERAL)).values())).data
    torn = data[cut] if not put else len(put).to_bytes(8, "little") + put
    with pytest.raises(RecordError):
        from_record(ArrayRecord({PACKED: Array("uint8", (len(torn),), PACKED, torn)}))
