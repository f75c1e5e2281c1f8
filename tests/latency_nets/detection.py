"""Detectors; YOLO ``lite`` has two convolutions for the focus layer and Relu throughout."""

from __future__ import annotations

from collections.abc import Sequence

from latency_nets.classification import mobilenet_v1_features, mobilenet_v2_features
from latency_nets.net import Net, channels_of
from lowtide.ir import Graph, Value

COCO = 91
"""Classes of the detectors from TensorFlow: the numbers of COCO with background."""

# --- SSD ---


def _predict(net: Net, maps: Sequence[Value], anchors: Sequence[int], classes: int, kernel: int) -> Graph:
    boxes = [net.rows(net.conv(x, 4 * a, kernel, act=False), 4) for x, a in zip(maps, anchors, strict=True)]
    scores = [
        net.rows(net.conv(x, classes * a, kernel, act=False), classes)
        for x, a in zip(maps, anchors, strict=True)
    ]
    return net.done(net.concat(boxes, axis=1), net.sigmoid(net.concat(scores, axis=1)))


def _extras(net: Net, x: Value, widths: Sequence[tuple[int, int]]) -> list[Value]:
    found: list[Value] = []
    for narrow, wide in widths:
        x = net.conv(net.conv(x, narrow), wide, 3, 2)
        found.append(x)
    return found


EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))


def ssd_mobilenet_v1() -> Graph:
    net = Net("ssd_mobilenet_v1", 300)
    features = mobilenet_v1_features(net, net.input)
    maps = [features[11], features[13], *_extras(net, features[13], EXTRAS)]
    return _predict(net, maps, (3, 6, 6, 6, 6, 6), COCO, 1)


def ssd_mobilenet_v2() -> Graph:
    net = Net("ssd_mobilenet_v2", 300)
    wides, outs = mobilenet_v2_features(net, net.input)
    last = net.conv(outs[-1], 1280)
    return _predict(net, [wides[13], last, *_extras(net, last, EXTRAS)], (3, 6, 6, 6, 6, 6), COCO, 3)


def ssdlite_mobilenet_v2_fpn() -> Graph:
    """The neck has 256 channels and a position 3 anchors, which gives the published count of MACs."""
    net = Net("ssdlite_mobilenet_v2_fpn", 512)
    _, outs = mobilenet_v2_features(net, net.input)
    tops = [net.conv(outs[index], 256, act=False) for index in (5, 12, 16)]
    for lower, upper in ((1, 2), (0, 1)):
        tops[lower] = net.add(tops[lower], net.upsample(tops[upper], 2))
    maps = [net.separable(x, 256) for x in tops]
    for _ in range(3):
        maps.append(net.separable(maps[-1], 256, stride=2))
    boxes = [net.rows(net.conv(net.depthwise(x), 3 * 4, act=False), 4) for x in maps]
    scores = [net.rows(net.conv(net.depthwise(x), 3 * 81, act=False), 81) for x in maps]
    return net.done(net.concat(boxes, axis=1), net.sigmoid(net.concat(scores, axis=1)))


# --- YOLO ---


def _csp(net: Net, x: Value, channels: int, blocks: int, *, shortcut: bool = True) -> Value:
    half = channels // 2
    y = net.conv(x, half)
    for _ in range(blocks):
        z = net.conv(net.conv(y, half), half, 3)
        y = net.add(y, z) if shortcut else z
    return net.conv(net.concat([y, net.conv(x, half)]), channels)


def yolox_lite(size: int, width: float, depth: int = 1) -> Graph:
    net = Net("yolox_lite", size)
    c = [int(width * channels) for channels in (64, 128, 256, 512, 1024)]
    x = net.conv(net.conv(net.input, 12, 3, 2), c[0], 3)
    maps: list[Value] = []
    for stage, blocks in enumerate((depth, 3 * depth, 3 * depth, depth), start=1):
        x = net.conv(x, c[stage], 3, 2)
        if stage == 4:
            x = net.conv(x, c[3])
            pools = [x]
            for _ in range(3):
                pools.append(net.pool(net.pool(pools[-1], 3, 1), 3, 1))
            x = net.conv(net.concat(pools), c[4])
        x = _csp(net, x, c[stage], blocks, shortcut=stage != 4)
        maps.append(x)
    low, middle, high = maps[1:]
    fpn5 = net.conv(high, c[3])
    middle = _csp(net, net.concat([net.upsample(fpn5, 2), middle]), c[3], depth, shortcut=False)
    fpn4 = net.conv(middle, c[2])
    low = _csp(net, net.concat([net.upsample(fpn4, 2), low]), c[2], depth, shortcut=False)
    middle = _csp(net, net.concat([net.conv(low, c[2], 3, 2), fpn4]), c[3], depth, shortcut=False)
    high = _csp(net, net.concat([net.conv(middle, c[3], 3, 2), fpn5]), c[4], depth, shortcut=False)
    return net.done(*(output for x in (low, middle, high) for output in _yolox_head(net, x, c[2])))


def _yolox_head(net: Net, x: Value, channels: int) -> list[Value]:
    x = net.conv(x, channels)
    classes = net.conv(net.conv(x, channels, 3), channels, 3)
    boxes = net.conv(net.conv(x, channels, 3), channels, 3)
    found = net.concat(
        [
            net.conv(boxes, 4, act=False),
            net.sigmoid(net.conv(boxes, 1, act=False)),
            net.sigmoid(net.conv(classes, 80, act=False)),
        ]
    )
    return [net.rows(found, 85)]


def yolox_nano_lite() -> Graph:
    return yolox_lite(416, 0.25)


def yolox_tiny_lite() -> Graph:
    return yolox_lite(416, 0.375)


def yolox_s_lite() -> Graph:
    return yolox_lite(640, 0.5)


def _elan(net: Net, x: Value, hidden: int, inner: int, channels: int, *, every: bool = False) -> Value:
    """A chain of four 3x3 convolutions; all of them, or every second one, reach the output."""
    chain = [net.conv(x, hidden), net.conv(x, hidden)]
    for _ in range(4):
        chain.append(net.conv(chain[-1], inner, 3))
    kept = chain if every else [chain[0], chain[1], chain[3], chain[5]]
    return net.conv(net.concat(kept), channels)


def _down(net: Net, x: Value, channels: int) -> Value:
    return net.concat(
        [net.conv(net.pool(x, 2, 2, pad=0), channels), net.conv(net.conv(x, channels), channels, 3, 2)]
    )


def yolov7_l_lite() -> Graph:
    net = Net("yolov7_l_lite", 640)
    x = net.conv(net.conv(net.conv(net.input, 32, 3), 64, 3, 2), 64, 3)
    x = _elan(net, net.conv(x, 128, 3, 2), 64, 64, 256)
    maps: list[Value] = []
    for half, hidden, channels in ((128, 128, 512), (256, 256, 1024), (512, 256, 1024)):
        x = _elan(net, _down(net, x, half), hidden, hidden, channels)
        maps.append(x)
    high = _sppcspc(net, maps[2])
    middle = net.concat([net.conv(maps[1], 256), net.upsample(net.conv(high, 256), 2)])
    middle = _elan(net, middle, 256, 128, 256, every=True)
    low = net.concat([net.conv(maps[0], 128), net.upsample(net.conv(middle, 128), 2)])
    low = _elan(net, low, 128, 64, 128, every=True)
    middle = _elan(net, net.concat([_down(net, low, 128), middle]), 256, 128, 256, every=True)
    high = _elan(net, net.concat([_down(net, middle, 256), high]), 512, 256, 512, every=True)
    heads = [net.conv(net.conv(x, 2 * channels_of(x), 3), 255, act=False) for x in (low, middle, high)]
    return net.done(*(net.rows(net.sigmoid(x), 85) for x in heads))


def _sppcspc(net: Net, x: Value) -> Value:
    y = net.conv(net.conv(net.conv(x, 512), 512, 3), 512)
    pools = [y]
    for _ in range(3):
        pools.append(net.pool(net.pool(pools[-1], 3, 1), 3, 1))
    y = net.conv(net.conv(net.concat(pools), 512), 512, 3)
    return net.conv(net.concat([y, net.conv(x, 512)]), 512)
