"""3D residual networks: crop x_BCZYX in [0, 1] → logits (B, classes).

MONAI's residual blocks, layer names and layout (stem 7³, max-pool, four stages, mean, linear), so that MONAI's and
MedicalNet's weights fit by name. Built here and not by `monai.networks.nets.ResNet` because there (1.6.1) `norm=` and
`act=` reach the stem only, `out += residual` and the in-place ReLU overwrite what per-sample gradient hooks still
need, and shortcut "A" detaches the gradient. Here: the norm asked for everywhere, nothing in place, shortcut "B"
(1³ convolution + norm). `bn1`, `bn2` … are MONAI's names whatever the norm is: for the kind ask `models.norm`.

Source: He et al. 2016, "Deep residual learning for image recognition"; Wu, He 2018, "Group normalization".
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from numpy.typing import NDArray
from torch import Tensor, nn

NormSpec = tuple[str, dict[str, Any]]
"""MONAI's way to name a layer: its name and the arguments beside the channels."""

RELU = ("relu", {"inplace": False})
MIN_GROUP_CHANNELS = 8
"""On a map of one voxel, where small crops end, a group holds one number a channel: one is normalised to zero, two to
±1, and the network is dead. Eight leave a signal (Wu, He 2018, table 3: 8 to 32 channels a group do equally well)."""


class BasicBlock(ResNetBlock):  # type: ignore[misc]  # monai is untyped
    """Two 3³ convolutions beside the shortcut, added out of place."""

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.act(out + residual)  # type: ignore[no-any-return]


class Bottleneck(ResNetBottleneck):  # type: ignore[misc]  # monai is untyped
    """1³, 3³ and 1³ convolution beside the shortcut, added out of place; four times as wide at its end."""

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.act(out + residual)  # type: ignore[no-any-return]


Block = type[BasicBlock] | type[Bottleneck]

DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
"""Depth → block and blocks per stage (He et al. 2016, table 1; 10 as in MONAI and MedicalNet)."""


class ResNet3d(nn.Module):
    """Stem, four stages, mean over the map, linear. Build it with `resnet`, which checks and initialises."""

    def __init__(
        self,
        block: Block,
        blocks: Sequence[int],
        *,
        widths: Sequence[int],
        norms: Sequence[NormSpec],
        in_channels: int,
        classes: int,
        stem_stride: int,
        max_pool: bool,
    ) -> None:
        super().__init__()
        self.conv1 = Conv["conv", 3](in_channels, widths[0], kernel_size=7, stride=stem_stride, padding=3, bias=False)
        self.bn1 = get_norm_layer(norms[0], spatial_dims=3, channels=widths[0])
        self.act = get_act_layer(RELU)
        self.maxpool = Pool["max", 3](kernel_size=3, stride=2, padding=1) if max_pool else nn.Identity()
        inputs = (widths[0], *(width * block.expansion for width in widths[:-1]))
        stages = zip(inputs, widths, blocks, norms, (1, 2, 2, 2), strict=True)
        self.layer1, self.layer2, self.layer3, self.layer4 = (_stage(block, *stage) for stage in stages)
        self.fc = nn.Linear(widths[-1] * block.expansion, classes)

    def forward(self, x_BCZYX: Tensor) -> Tensor:
        x = self.maxpool(self.act(self.bn1(self.conv1(x_BCZYX))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        # The mean, not AdaptiveAvgPool3d: the same numbers, and its gradient on a GPU is deterministic.
        logits: Tensor = self.fc(x.mean(dim=(2, 3, 4)))
        return logits


def _stage(block: Block, inputs: int, width: int, blocks: int, norm: NormSpec, stride: int) -> nn.Sequential:
    outputs = width * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            Conv["conv", 3](inputs, outputs, kernel_size=1, stride=stride, bias=False),
            get_norm_layer(norm, spatial_dims=3, channels=outputs),
        )
    first = block(inputs, width, stride=stride, downsample=shortcut, act=RELU, norm=norm)
    return nn.Sequential(first, *(block(outputs, width, act=RELU, norm=norm) for _ in range(blocks - 1)))


def resnet(
    depth: int = 10,
    widths: Sequence[int] = (64, 128, 256, 512),
    norm: str = "group",
    *,
    groups: int = 8,
    in_channels: int = 1,
    classes: int = 1,
    stem_stride: int = 2,
    max_pool: bool = True,
    seed: int = 0,
) -> ResNet3d:
    """Build and initialise a 3D ResNet: x_BCZYX, 16 to 64 voxels a side or more → logits (B, classes).

    `groups` is the most channel groups a group norm has; a narrow layer has the largest number below it that divides
    the layer's channels and leaves at least eight of them to a group. Without `max_pool` the maps stay twice as large,
    for eight times the work in the first stage. Same arguments, same numbers: torch's global
    generator is neither read nor moved.

    Raises ValueError for a depth, widths, norm, groups or stride that cannot be built.
    """
    if depth not in DEPTHS:
        raise ValueError(f"model.depth: got {depth}; write one of {', '.join(map(str, DEPTHS))}")
    if len(widths) != len(DEPTHS[depth][1]):
        raise ValueError(f"model.widths: got {list(widths)}; write four channel counts, one a stage")
    if stem_stride not in (1, 2):
        raise ValueError(f"model.stem_stride: got {stem_stride}; write 2, or 1 for eight times the work")
    block, blocks = DEPTHS[depth]
    norms = [_norm_spec(norm, groups, width) for width in widths]
    with torch.device("meta"):  # no memory and no random numbers before `init`
        model = ResNet3d(
            block,
            blocks,
            widths=widths,
            norms=norms,
            in_channels=in_channels,
            classes=classes,
            stem_stride=stem_stride,
            max_pool=max_pool,
        )
    # What `model.to_empty` does, without the 41 MB of symbolic mathematics that it imports.
    empty = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in model.state_dict().items()}
    model.load_state_dict(empty, assign=True)
    init(model, seed)
    return model


def _norm_spec(norm: str, groups: int, channels: int) -> NormSpec:
    if channels < 2:
        raise ValueError(f"model.widths: got a stage of {channels} channels; write 2 or more")
    if norm == "batch":
        return "batch", {}
    if norm != "group":
        raise ValueError(f"model.norm: got {norm!r}; write group or batch")
    if groups < 1:
        raise ValueError(f"model.groups: got {groups}; write 1 or more")
    most = max(1, min(groups, channels // MIN_GROUP_CHANNELS))
    return "group", {"num_groups": next(g for g in range(most, 0, -1) if channels % g == 0)}


def init(model: nn.Module, seed: int) -> None:
    """Set every tensor of a network of convolutions, norms and linear layers, from `seed` alone.

    Convolutions: normal, variance 2 / fan-out; linear: uniform within 1 / √fan-in, bias zero (MONAI's choices);
    norms: identity. Source: He et al. 2015, "Delving deep into rectifiers", eq. 14.

    Raises TypeError for a layer that has tensors of its own and no rule here.
    """
    rng = np.random.default_rng(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv3d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            _set(module.weight, math.sqrt(2 / fan_out) * rng.standard_normal(module.weight.shape, np.float32))
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            _set(module.weight, rng.uniform(-bound, bound, module.weight.shape))
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm | nn.BatchNorm3d):
            module.reset_parameters()
        elif any(True for _ in module.parameters(recurse=False)):
            raise TypeError(f"{name or 'model'}: no initialisation is written for {type(module).__name__}")


def _set(weight: Tensor, values: NDArray[Any]) -> None:
    with torch.no_grad():
        weight.copy_(torch.from_numpy(values))
