from __future__ import annotations

import pytest

from lowtide.ir import parse_graph
from lowtide.measure import judged, judged_values

NETWORK = """graph "net" {{
  input %x: float32[1, 4]
  %logits: float32[1, 4] = Relu(%x)
  {body}
  return {outputs}
}}
"""


@pytest.mark.parametrize(
    ("body", "outputs", "wanted"),
    [
        ("%y: float32[1, 4] = Softmax(%logits) {axis=1}", "%y", ["logits"]),
        ("%y: float32[1, 4] = LogSoftmax(%logits) {axis=1}", "%y", ["logits"]),
        (
            "%p: float32[1, 4] = Softmax(%logits) {axis=1}\n  %y: float32[1, 4] = Flatten(%p) {axis=1}",
            "%y",
            ["logits"],
        ),
        ("%y: float32[1, 4] = Softmax(%logits) {axis=1}", "%y, %logits", ["logits"]),
        ("%y: float32[1, 4] = Sigmoid(%logits)", "%y", ["logits", "y"]),
        (
            (
                "%boxes: float32[1, 4] = Abs(%x)\n  %p: float32[1, 4] = Sigmoid(%logits)\n"
                "  %both: float32[1, 8] = Concat(%boxes, %p) {axis=1}\n"
                "  %y: float32[8, 1] = Transpose(%both) {perm=[1, 0]}"
            ),
            "%y",
            ["boxes", "logits", "p"],
        ),
        (
            "%p: float32[1, 4] = Sigmoid(%logits)\n  %y: float32[1, 8] = Concat(%x, %p) {axis=1}",
            "%y",
            ["y"],
        ),
        ("%y: float32[1, 4] = Flatten(%logits) {axis=1}", "%y", ["y"]),
        ("%y: float32[1, 4] = Softmax(%x) {axis=1}", "%y", ["y"]),
    ],
)
def test_a_network_is_judged_by_logits_and_by_the_parts_that_it_joins(
    body: str, outputs: str, wanted: list[str]
) -> None:
    graph = parse_graph(NETWORK.format(body=body, outputs=outputs))
    before = graph.clone()
    assert [value.name for value in judged(graph).outputs] == wanted
    assert [value.name for value in judged_values(graph)] == wanted
    assert graph == before
    assert not any(node.op.endswith("Softmax") for node in judged(graph)) or wanted == ["y"]
