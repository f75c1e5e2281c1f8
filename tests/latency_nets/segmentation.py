"""Segmentation: DeepLabV3+ with separable convolutions on MobileNetV2, output at a quarter or full size."""

from __future__ import annotations

from latency_nets.classification import mobilenet_v2_features
from latency_nets.net import Net
from lowtide.ir import Graph


def deeplabv3_lite_mobilenet_v2(classes: int, *, full: bool) -> Graph:
    net = Net("deeplabv3_lite_mobilenet_v2", 512)
    _, outs = mobilenet_v2_features(net, net.input, output_stride=16)
    x = outs[-1]
    branches = [net.conv(x, 256), *(net.separable(x, 256, dilation=d) for d in (6, 12, 18))]
    x = net.conv(net.concat(branches), 256)
    x = net.concat([net.upsample(x, 4), net.conv(outs[2], 48)])
    x = net.conv(net.depthwise(x), classes, act=False)
    return net.done(net.argmax(net.upsample(x, 4) if full else x))


def deeplabv3_lite_quarter() -> Graph:
    return deeplabv3_lite_mobilenet_v2(32, full=False)


def deeplabv3_lite_full() -> Graph:
    return deeplabv3_lite_mobilenet_v2(21, full=True)
