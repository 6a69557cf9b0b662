"""The Gram matrix of patches, found without forming them, is that of the patches."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.private.patches import Axis, patch_gram, patch_rows, unfold

AXES = st.builds(
    Axis, kernel=st.integers(1, 3), stride=st.integers(1, 3), padding=st.integers(0, 3), dilation=st.integers(1, 2)
)


@given(axes=st.lists(AXES, min_size=1, max_size=3), crops=st.integers(1, 2), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_gram_of_patches_follows_from_gram_of_voxels(axes, crops, seed):
    torch.manual_seed(seed)
    size = [5, 6, 5][: len(axes)]
    x = torch.randn(crops, 2, *size, dtype=torch.float64)
    voxels = x.movedim(1, 0).flatten(1)
    found = patch_gram((voxels.mT @ voxels).view(crops, *size, crops, *size), axes, (1, 2 + len(axes)))
    rows = patch_rows(x, axes, groups=1)[0]
    torch.testing.assert_close(found.flatten(len(axes) + 1).flatten(0, len(axes)), rows @ rows.mT)


@given(axis=AXES, size=st.integers(5, 9))
def test_every_output_sees_the_inputs_torch_says(axis, size):
    x = torch.arange(1.0, size + 1).view(1, 1, size)
    seen = unfold(x, [axis])[0, 0]
    for tap in range(axis.kernel):
        outputs, inputs = axis.overlap(tap, size)
        expected = torch.zeros(axis.outputs(size))
        expected[outputs] = x[0, 0, inputs]
        torch.testing.assert_close(seen[:, tap], expected)


def test_rows_of_patches_are_torchs_unfold():
    x = torch.randn(2, 4, 5, 6)
    axes = [Axis(kernel=3, stride=2, padding=1, dilation=1), Axis(kernel=2, stride=1, padding=0, dilation=2)]
    expected = torch.nn.functional.unfold(x, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
    torch.testing.assert_close(patch_rows(x, axes, groups=1)[0], expected.mT.flatten(0, 1))
