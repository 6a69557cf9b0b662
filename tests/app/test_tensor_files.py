"""What is written comes back; what was changed is noticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from app.tensor_files import DTYPES, LARGE, Unreadable, read_groups, write_groups

TENSORS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=5),
    hnp.arrays(st.sampled_from([np.float32, np.int64, np.uint8, np.float64]), hnp.array_shapes(min_dims=0, max_dims=4)),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(groups=st.dictionaries(st.sampled_from(["model", "control", "server_opt.m"]), TENSORS))
def test_groups_of_any_shape_and_type_come_back(tmp_path_factory, groups):
    path = tmp_path_factory.mktemp("g") / "x.safetensors"
    write_groups(path, groups, {"round": 3, "list": [1, "a"]})
    back, facts = read_groups(path)
    assert facts == {"round": 3, "list": [1, "a"]}
    assert {g: t for g, t in groups.items() if t}.keys() == back.keys()
    for group, tensors in back.items():
        for name, tensor in tensors.items():
            assert tensor.dtype == groups[group][name].dtype
            np.testing.assert_array_equal(tensor, groups[group][name])


def test_safetensors_itself_reads_every_type(tmp_path):
    tensors = {f"x{dtype.char}": np.array([[0, 1], [1, 0]], dtype) for dtype in DTYPES}
    write_groups(tmp_path / "x.safetensors", {"g": tensors}, {})
    back = load_file(tmp_path / "x.safetensors")
    assert {name: back[f"g/{name}"].dtype for name in tensors} == {name: t.dtype for name, t in tensors.items()}
    assert all((back[f"g/{name}"] == tensor).all() for name, tensor in tensors.items())


def test_a_large_file_is_whole_and_checked_too(tmp_path):
    path = tmp_path / "x.safetensors"
    tensor = np.arange(LARGE // 4 + 1, dtype=np.float32)
    # what looks like the place of the checksum, before and after it
    write_groups(path, {"0" * 32: {"w": tensor}}, {"0" * 32: "0" * 32})
    back, facts = read_groups(path)
    assert facts == {"0" * 32: "0" * 32}
    np.testing.assert_array_equal(back["0" * 32]["w"], tensor)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="checksum"):
        read_groups(path)


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-3], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"", lambda b: b"x" * 99]
)
def test_a_spoiled_file_is_noticed(tmp_path, spoil):
    path = tmp_path / "x.safetensors"
    write_groups(path, {"model": {"w": np.arange(10.0)}}, {"round": 1})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(Unreadable, match=r"x\.safetensors"):
        read_groups(path)


def test_changed_facts_are_noticed_too(tmp_path):
    path = tmp_path / "x.safetensors"
    write_groups(path, {"model": {"w": np.arange(10.0)}}, {"round": 1})
    path.write_bytes(path.read_bytes().replace(b'round\\": 1', b'round\\": 2'))
    with pytest.raises(Unreadable, match="checksum"):
        read_groups(path)
