import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies.errors import RecordError
from strategies.records.arrays import from_record, to_record
from tests.strategies.fakes import vector

DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.int8, np.uint8, np.bool_])


@given(DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))))
def test_tensors_come_back_as_they_went_in_whatever_dtype_and_shape(tensor):
    (back,) = from_record(to_record({"t": tensor})).values()
    assert back.dtype == tensor.dtype
    np.testing.assert_array_equal(back, tensor)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)))
def test_flower_itself_reads_the_same_numbers_from_our_records_and_we_from_its(tensor):
    np.testing.assert_array_equal(to_record({"t": tensor})["t"].numpy(), tensor)
    np.testing.assert_array_equal(from_record(ArrayRecord({"t": Array(tensor)}))["t"], tensor)


def test_a_fortran_ordered_array_keeps_its_axes():
    tensor = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(from_record(ArrayRecord({"t": Array(tensor)}))["t"], tensor)


def test_reading_shares_the_messages_bytes_and_cannot_change_them():
    record = to_record(vector(1, 2, 3))
    tensor = from_record(record)["w"]
    assert not tensor.flags.writeable
    assert tensor.base is not None
    assert np.shares_memory(tensor, np.frombuffer(record["w"].data, np.uint8))


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY\x01\x00", b"not an array at all", to_record(vector(1, 2))["w"].data[:-3]]
)
def test_bytes_that_are_no_array_are_refused(data):
    record = ArrayRecord({"w": Array("float32", (2,), "numpy.ndarray", data)})
    with pytest.raises(RecordError, match="'w'"):
        from_record(record)


def test_pickled_objects_are_refused():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    record = ArrayRecord({"w": Array("object", (1,), "numpy.ndarray", buffer.getvalue())})
    with pytest.raises(RecordError):
        from_record(record)


def test_another_serialisation_is_refused():
    with pytest.raises(RecordError, match=r"'w' is serialised as 'pickle'"):
        from_record(ArrayRecord({"w": Array("float32", (1,), "pickle", b"")}))
