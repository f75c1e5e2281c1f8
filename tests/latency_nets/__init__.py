"""The networks of `published.csv`, by name, with the multiply-accumulates that are published for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from latency_nets import classification, detection, segmentation
from lowtide.ir import Graph

NETWORKS: Mapping[str, tuple[Callable[[], Graph], float]] = {
    "mobilenet_v1": (classification.mobilenet_v1, 0.568),
    "mobilenet_v2": (classification.mobilenet_v2, 0.300),
    "mobilenet_v2_1p4": (lambda: classification.mobilenet_v2(width=1.4), 0.582),
    "mobilenet_v3_small_lite": (classification.mobilenet_v3_small_lite, 0.054),
    "resnet18": (classification.resnet18, 1.814),
    "regnet_x_200mf": (classification.regnet_x_200mf, 0.2),
    "regnet_x_400mf": (classification.regnet_x_400mf, 0.415),
    "regnet_x_800mf": (classification.regnet_x_800mf, 0.80),
    "squeezenet_1_1": (classification.squeezenet_1_1, 0.352),
    "inception_v3": (classification.inception_v3, 5.74),
    "ssd_mobilenet_v1": (detection.ssd_mobilenet_v1, 1.237),
    "ssd_mobilenet_v2": (detection.ssd_mobilenet_v2, 1.875),
    "ssdlite_mobilenet_v2_fpn": (detection.ssdlite_mobilenet_v2_fpn, 2.29),
    "yolox_nano_lite": (detection.yolox_nano_lite, 1.476),
    "yolox_tiny_lite": (detection.yolox_tiny_lite, 3.24),
    "yolox_s_lite": (detection.yolox_s_lite, 13.43),
    "yolov7_l_lite": (detection.yolov7_l_lite, 52.95),
    "deeplabv3_lite_quarter": (segmentation.deeplabv3_lite_quarter, 3.28),
    "deeplabv3_lite_full": (segmentation.deeplabv3_lite_full, 3.161),
}
"""Each as a function that makes the graph, and 10^9 multiply-accumulates of one frame."""
