"""Padding that is computed from sizes becomes explicit."""

from __future__ import annotations

from lowtide.ir import Graph, Node
from lowtide_plugins.passes.rewrite import Tally

WINDOWED = frozenset({"AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool"})
"""Operators with the attribute ``auto_pad``."""


def explicit_pads(graph: Graph, node: Node, tally: Tally) -> None:
    """Replace ``auto_pad`` and ConvTranspose's ``output_shape`` by ``pads``.

    Source: ONNX operators Conv, opset 11, AveragePool, opset 19, and ConvTranspose, opset 11.
    """
    if node.op not in WINDOWED:
        return
    mode = node.str_attribute("auto_pad", "NOTSET")
    sized = "output_shape" in node.attributes
    if mode == "NOTSET" and not sized:
        if "auto_pad" in node.attributes:
            graph.set_attribute(node, "auto_pad", None)
            tally.count("pads")
        return
    kernel = _kernel(node)
    if kernel is None:
        tally.refuse(node, "the size of its kernel would have to be known.")
        return
    pads = (0,) * (2 * len(kernel)) if mode == "VALID" and not sized else _pads(node, kernel, mode, sized)
    if pads is None:
        tally.refuse(
            node, f"{mode} needs the height and width of {node.value(0).name}, which are not static."
        )
        return
    if pads and min(pads) < 0:
        tally.refuse(node, "its result is larger than its terms reach; output_padding would have to say so.")
        return
    graph.set_attribute(node, "pads", pads)
    graph.set_attribute(node, "auto_pad", None)
    graph.set_attribute(node, "output_shape", None)
    if mode.startswith("SAME") and "ceil_mode" in node.attributes:
        graph.set_attribute(node, "ceil_mode", None)
    tally.count("pads")


def _kernel(node: Node) -> tuple[int, ...] | None:
    given = node.ints_attribute("kernel_shape")
    if given or node.op not in {"Conv", "ConvTranspose"}:
        return given or None
    weights = node.value(1).type
    return weights.static_shape[2:] if weights.is_static else None


def _pads(node: Node, kernel: tuple[int, ...], mode: str, sized: bool) -> tuple[int, ...] | None:
    shape = node.value(0).type.shape
    sizes = None if shape is None else [dim for dim in shape[2:] if dim is not None]
    if sizes is None or len(sizes) != len(kernel):
        return None
    ones = (1,) * len(kernel)
    strides, dilations = node.ints_attribute("strides", ones), node.ints_attribute("dilations", ones)
    spans = [(width - 1) * step + 1 for width, step in zip(kernel, dilations, strict=True)]
    if node.op == "ConvTranspose":
        extra = node.ints_attribute("output_padding", (0,) * len(kernel))
        wanted = node.ints_attribute("output_shape") if sized else None
        results = wanted or [size * stride for size, stride in zip(sizes, strides, strict=True)]
        rows = zip(sizes, strides, spans, extra, results[-len(kernel) :], strict=True)
        totals = [stride * (size - 1) + more + span - result for size, stride, span, more, result in rows]
        return _split(totals, upper=mode == "SAME_UPPER")
    results = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    rows_same = zip(sizes, strides, spans, results, strict=True)
    totals = [max(0, (result - 1) * stride + span - size) for size, stride, span, result in rows_same]
    return _split(totals, upper=mode == "SAME_UPPER")


def _split(totals: list[int], *, upper: bool) -> tuple[int, ...]:
    """Halves, the odd element behind if `upper`, else in front: all begins, then all ends."""
    small = [total // 2 for total in totals]
    large = [total - half for total, half in zip(totals, small, strict=True)]
    return (*small, *large) if upper else (*large, *small)
