"""Classifiers, as their papers and torchvision have them; ``lite`` ones without squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Sequence

from latency_nets.net import Net, channels_of, rounded
from lowtide.ir import Graph, Value

# --- MobileNet ---

V1_STAGES = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_v1_features(net: Net, x: Value) -> list[Value]:
    """Output of the stem and of every block."""
    found = [net.conv(x, 32, 3, 2)]
    for channels, stride in V1_STAGES:
        found.append(net.separable(found[-1], channels, 3, stride))
    return found


def mobilenet_v1(size: int = 224) -> Graph:
    net = Net("mobilenet_v1", size)
    return net.done(net.classifier(mobilenet_v1_features(net, net.input)[-1]))


V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride."""


def inverted(
    net: Net, x: Value, hidden: int, channels: int, stride: int, *, kernel: int = 3, dilation: int = 1
) -> tuple[Value, Value]:
    """An inverted residual block: its expansion and its output."""
    wide = net.conv(x, hidden) if hidden != channels_of(x) else x
    y = net.conv(net.depthwise(wide, kernel, stride, dilation=dilation), channels, act=False)
    return wide, net.add(x, y) if stride == 1 and channels_of(x) == channels else y


def mobilenet_v2_features(
    net: Net, x: Value, *, width: float = 1.0, output_stride: int = 32
) -> tuple[list[Value], list[Value]]:
    """The expansions and the outputs of the 17 blocks; beyond the output stride they are dilated instead."""
    x = net.conv(x, rounded(32 * width), 3, 2)
    wides: list[Value] = []
    outs: list[Value] = []
    reached, dilation = 2, 1
    for expansion, channels, blocks, first in V2_STAGES:
        for block in range(blocks):
            stride = first if block == 0 else 1
            now = dilation
            if stride == 2 and reached == output_stride:
                stride, dilation = 1, dilation * 2
            reached *= stride
            hidden = channels_of(x) * expansion
            wide, x = inverted(net, x, hidden, rounded(channels * width), stride, dilation=now)
            wides.append(wide)
            outs.append(x)
    return wides, outs


def mobilenet_v2(size: int = 224, width: float = 1.0) -> Graph:
    net = Net("mobilenet_v2", size)
    _, outs = mobilenet_v2_features(net, net.input, width=width)
    return net.done(net.classifier(net.conv(outs[-1], rounded(1280 * max(1.0, width)))))


V3_SMALL = (
    (3, 16, 16, 2),
    (3, 72, 24, 2),
    (3, 88, 24, 1),
    (5, 96, 40, 2),
    (5, 240, 40, 1),
    (5, 240, 40, 1),
    (5, 120, 48, 1),
    (5, 144, 48, 1),
    (5, 288, 96, 2),
    (5, 576, 96, 1),
    (5, 576, 96, 1),
)
V3_LARGE = (
    (3, 16, 16, 1),
    (3, 64, 24, 2),
    (3, 72, 24, 1),
    (5, 72, 40, 2),
    (5, 120, 40, 1),
    (5, 120, 40, 1),
    (3, 240, 80, 2),
    (3, 200, 80, 1),
    (3, 184, 80, 1),
    (3, 184, 80, 1),
    (3, 480, 112, 1),
    (3, 672, 112, 1),
    (5, 672, 160, 2),
    (5, 960, 160, 1),
    (5, 960, 160, 1),
)
"""Kernel, hidden channels, channels, stride."""


def mobilenet_v3_lite(blocks: Sequence[tuple[int, int, int, int]], last: int, wide: int) -> Graph:
    net = Net("mobilenet_v3_lite", 224)
    x = net.conv(net.input, 16, 3, 2)
    for kernel, hidden, channels, stride in blocks:
        _, x = inverted(net, x, hidden, channels, stride, kernel=kernel)
    x = net.flat(net.average(net.conv(x, last)))
    return net.done(net.linear(net.linear(x, wide, act=True), 1000))


def mobilenet_v3_small_lite() -> Graph:
    return mobilenet_v3_lite(V3_SMALL, 576, 1024)


# --- ResNet and RegNet ---


def resnet18() -> Graph:
    net = Net("resnet18", 224)
    x = net.pool(net.conv(net.input, 64, 7, 2), 3, 2)
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            short = net.conv(x, channels, 1, 2, act=False) if stride == 2 else x
            y = net.conv(net.conv(x, channels, 3, stride), channels, 3, act=False)
            x = net.add(y, short, act=True)
    return net.done(net.classifier(x))


def resnet50() -> Graph:
    net = Net("resnet50", 224)
    x = net.pool(net.conv(net.input, 64, 7, 2), 3, 2)
    for stage, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            short = net.conv(x, 4 * channels, 1, stride, act=False) if not block else x
            y = net.conv(net.conv(x, channels), channels, 3, stride)
            x = net.add(net.conv(y, 4 * channels, act=False), short, act=True)
    return net.done(net.classifier(x))


def regnet_x(depths: Sequence[int], widths: Sequence[int], group: int) -> Graph:
    net = Net("regnet_x", 224)
    x = net.conv(net.input, 32, 3, 2)
    for depth, width in zip(depths, widths, strict=True):
        for block in range(depth):
            stride = 1 if block else 2
            short = x if block else net.conv(x, width, 1, 2, act=False)
            y = net.conv(net.conv(x, width), width, 3, stride, group=width // group)
            x = net.add(net.conv(y, width, act=False), short, act=True)
    return net.done(net.classifier(x))


def regnet_x_200mf() -> Graph:
    return regnet_x((1, 1, 4, 7), (24, 56, 152, 368), 8)


def regnet_x_400mf() -> Graph:
    return regnet_x((1, 2, 7, 12), (32, 64, 160, 400), 16)


def regnet_x_800mf() -> Graph:
    return regnet_x((1, 3, 7, 5), (64, 128, 288, 672), 16)


# --- others ---


def squeezenet_1_1() -> Graph:
    net = Net("squeezenet", 224)
    x = net.pool(net.conv(net.input, 64, 3, 2, pad=0), 3, 2, pad=0)
    for number, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        if number in {2, 4}:
            x = net.pool(x, 3, 2, pad=0)
        narrow = net.conv(x, squeeze)
        x = net.concat([net.conv(narrow, expand), net.conv(narrow, expand, 3)])
    return net.done(net.flat(net.average(net.conv(x, 1000))))


def inception_v3() -> Graph:
    net = Net("inception_v3", 299)
    conv, concat, pool = net.conv, net.concat, net.pool
    x = conv(conv(conv(net.input, 32, 3, 2, pad=0), 32, 3, pad=0), 64, 3)
    x = conv(conv(pool(x, 3, 2, pad=0), 80), 192, 3, pad=0)
    x = pool(x, 3, 2, pad=0)
    for pooled in (32, 64, 64):
        five = conv(conv(x, 48), 64, 5)
        double = conv(conv(conv(x, 64), 96, 3), 96, 3)
        x = concat([conv(x, 64), five, double, conv(pool(x, 3, 1, "AveragePool"), pooled)])
    double = conv(conv(conv(x, 64), 96, 3), 96, 3, 2, pad=0)
    x = concat([conv(x, 384, 3, 2, pad=0), double, pool(x, 3, 2, pad=0)])
    for c in (128, 160, 160, 192):
        seven = _line(net, conv(x, c), (c, 192), ((1, 7), (7, 1)))
        double = _line(net, conv(x, c), (c, c, c, 192), ((7, 1), (1, 7), (7, 1), (1, 7)))
        x = concat([conv(x, 192), seven, double, conv(pool(x, 3, 1, "AveragePool"), 192)])
    seven = conv(_line(net, conv(x, 192), (192, 192), ((1, 7), (7, 1))), 192, 3, 2, pad=0)
    x = concat([conv(conv(x, 192), 320, 3, 2, pad=0), seven, pool(x, 3, 2, pad=0)])
    for _ in range(2):
        three, double = conv(x, 384), conv(conv(x, 448), 384, 3)
        sides = [
            _line(net, part, (384,), (kernel,)) for part in (three, double) for kernel in ((1, 3), (3, 1))
        ]
        x = concat([conv(x, 320), *sides, conv(pool(x, 3, 1, "AveragePool"), 192)])
    return net.done(net.classifier(x))


def _line(net: Net, x: Value, channels: Sequence[int], kernels: Sequence[tuple[int, int]]) -> Value:
    for count, kernel in zip(channels, kernels, strict=True):
        x = net.conv(x, count, kernel)
    return x
