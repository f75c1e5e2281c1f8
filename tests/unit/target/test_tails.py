"""Heads of detection networks, and what is computed from their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lowtide.diagnostics import Diagnostics
from lowtide.errors import OptionError
from lowtide.ir import Graph, layers, parse_graph
from lowtide.options import CompileOptions
from lowtide.plugin import discover
from lowtide.target import Placement, Target, decoding, detection_head, heads, load_target, place

SSD = parse_graph("""graph "ssd" {
  input %x: float32[1, 3, 8, 16]
  const %w: float32[4, 3, 1, 1] = fill(0.1)
  const %k: float32[2, 4, 1, 1] = fill(0.1)
  const %b: float32[4, 4, 1, 1] = fill(0.1)
  const %flat2: int64[3] = [1, 128, 2]
  const %flat4: int64[3] = [1, 128, 4]
  const %variance: float32[1] = [0.1]
  const %priors: float32[1, 128, 4] = fill(0.5)
  %base: float32[1, 4, 8, 16] = Conv(%x, %w) layer "r" nodes "base"
  %r: float32[1, 4, 8, 16] = Relu(%base) layer "r" nodes "relu"
  %cls: float32[1, 2, 8, 16] = Conv(%r, %k)
  %box: float32[1, 4, 8, 16] = Conv(%r, %b)
  %ct: float32[1, 8, 16, 2] = Transpose(%cls) {perm=[0, 2, 3, 1]}
  %cr: float32[1, 128, 2] = Reshape(%ct, %flat2)
  %scores: float32[1, 128, 2] = Softmax(%cr) {axis=2}
  %bt: float32[1, 8, 16, 4] = Transpose(%box) {perm=[0, 2, 3, 1]}
  %br: float32[1, 128, 4] = Reshape(%bt, %flat4)
  %scaled: float32[1, 128, 4] = Mul(%br, %variance)
  %size: float32[1, 128, 4] = Exp(%scaled)
  %boxes: float32[1, 128, 4] = Mul(%size, %priors)
  return %scores, %boxes
}""")
DECODING = {"scaled", "size", "boxes"}


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target("am68a", discover())


def placed(target: Target, graph: Graph, **options: object) -> Placement:
    return place(graph, target, CompileOptions(**options), Diagnostics())  # type: ignore[arg-type]


def on_host(target: Target, graph: Graph, **options: object) -> Mapping[str, str]:
    assignments = placed(target, graph, **options).assignments
    return {entry.layer: entry.reason for entry in assignments if entry.device == "host"}


def kinds(graph: Graph, **options: object) -> dict[str, str]:
    found, chosen = layers(graph), CompileOptions(**options)  # type: ignore[arg-type]
    head = detection_head(found, chosen)
    return {h.layer: h.kind for h in heads(found, decoding(found, chosen), head.tensors if head else {})}


def test_boxes_are_decoded_on_the_host_up_to_where_the_heads_are_put_together(target: Target) -> None:
    found = on_host(target, SSD)
    assert set(found) == DECODING
    assert all("Mul with a number for each position" in reason for reason in found.values())


def test_the_accelerator_decodes_where_it_is_told_to(target: Target) -> None:
    assert not on_host(target, SSD, post_processing="accelerator")


def test_heads_give_numbers_or_scores() -> None:
    assert kinds(SSD) == {"cls": "scores", "box": "regression"}


JOINED = parse_graph("""graph "joined" {
  input %x: float32[1, 3, 8, 8]
  const %w: float32[4, 3, 1, 1] = fill(0.1)
  const %k: float32[2, 4, 1, 1] = fill(0.1)
  const %b: float32[4, 4, 1, 1] = fill(0.1)
  const %flat: int64[3] = [1, 6, 64]
  %r: float32[1, 4, 8, 8] = Conv(%x, %w)
  %cls: float32[1, 2, 8, 8] = Conv(%r, %k)
  %scores: float32[1, 2, 8, 8] = Sigmoid(%cls)
  %box: float32[1, 4, 8, 8] = Conv(%r, %b)
  %both: float32[1, 6, 8, 8] = Concat(%box, %scores) {axis=1}
  %y: float32[1, 6, 64] = Reshape(%both, %flat)
  return %y
}""")


def test_boxes_and_scores_are_put_together_on_the_host(target: Target) -> None:
    found = on_host(target, JOINED)
    assert set(found) == {"both", "y"}
    assert "Concat of boxes and scores" in found["both"]
    assert not on_host(target, JOINED, post_processing="accelerator")


CLASSIFIER = parse_graph("""graph "c" {
  input %x: float32[1, 3, 8, 8]
  const %w: float32[4, 3, 1, 1] = fill(0.1)
  const %v: float32[4, 10] = fill(0.1)
  const %grid: float32[1, 3, 8, 8] = fill(0.1)
  %normal: float32[1, 3, 8, 8] = Sub(%x, %grid)
  %a: float32[1, 4, 8, 8] = Conv(%normal, %w)
  %s: float32[1, 4, 8, 8] = Sigmoid(%a)
  %m: float32[1, 4, 8, 8] = Mul(%a, %s)
  %g: float32[1, 4, 1, 1] = GlobalAveragePool(%m)
  %f: float32[1, 4] = Flatten(%g)
  %y: float32[1, 10] = Gemm(%f, %v)
  %e: float32[1, 10] = Exp(%y)
  return %e
}""")


def test_a_classifier_has_no_detection_head_and_nothing_of_it_is_post_processing(target: Target) -> None:
    assert kinds(CLASSIFIER) == {}
    assert not on_host(target, CLASSIFIER)


def test_grids_in_front_of_weights_are_no_post_processing(target: Target) -> None:
    assert "normal" not in on_host(target, CLASSIFIER)


SEGMENTER = parse_graph("""graph "s" {
  input %x: float32[1, 3, 8, 8]
  const %w: float32[4, 3, 1, 1] = fill(0.1)
  const %none: float32[0] = []
  const %sizes: int64[4] = [1, 4, 13, 13]
  %c: float32[1, 4, 8, 8] = Conv(%x, %w)
  %up: float32[1, 4, 13, 13] = Resize(%c, %none, %none, %sizes) {mode="linear"}
  %y: int64[1, 13, 13] = ArgMax(%up) {axis=1, keepdims=0}
  return %y
}""")


def test_an_index_of_what_the_host_makes_is_not_brought_back(target: Target) -> None:
    found = on_host(target, SEGMENTER)
    assert set(found) == {"up", "y"}
    assert "nothing behind it has weights" in found["y"]


# --- the vendor's file of the head ---

META = """
# made for a test
name: "ssd"
caffe_ssd {
  box_input: "box"     # numbers
  class_input: 'cls'
  output: "detections"
  prior_box_param { aspect_ratio: [1.0, 2.0] flip: true, min_size: 3e1; }
  detection_output_param < num_classes: 2 nms_param { nms_threshold: 0.5 } >
}
"""


def test_what_is_computed_from_the_tensors_of_the_file_runs_on_the_host(
    target: Target, tmp_path: Path
) -> None:
    path = tmp_path / "head.prototxt"
    path.write_text(META, "utf-8")
    found = on_host(target, SSD, meta_layers_names_list=str(path))
    assert set(found) == {"ct", "cr", "scores", "bt", "br", *DECODING}
    assert kinds(SSD, meta_layers_names_list=str(path)) == {"cls": "scores", "box": "regression"}


def test_a_name_inside_of_a_layer_means_the_layer(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "head.prototxt"
    path.write_text('tidl_yolo { yolo_param { input: "box" anchor_width: 1 } in_width: 8 }', "utf-8")
    head = detection_head(layers(SSD), CompileOptions(meta_layers_names_list=str(path)))
    assert head is not None
    assert head.tensors == {"box": "head"}
    assert head.architecture == ("tidl_yolo",)
    assert "bt" in on_host(target, SSD, meta_layers_names_list=str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a { box_input: "bax" }', "1: the network has no tensor 'bax'.*did you mean box"),
        ('a {\n box_input "box"\n}', "2: expected a colon or a block after box_input"),
        ('a {\n box_input: "box"\n', "a block is not closed"),
        ("}", "} closes nothing"),
        ("a { b: }", "b has no value"),
        ('a { b: "x }', "cannot read"),
        ('"a"', 'expected the name of a field, found "a"'),
        ("name: 'x'", "names no tensor"),
        ("", "names no tensor"),
        ("a {" * 100, "nested too deep"),
        ("a: [1, 2", "a has no value"),
    ],
)
def test_a_file_that_says_nothing_of_this_network_is_refused_with_the_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "head.prototxt"
    path.write_text(text, "utf-8")
    with pytest.raises(OptionError, match=words) as caught:
        detection_head(layers(SSD), CompileOptions(meta_layers_names_list=str(path)))
    assert caught.value.place == "object_detection:meta_layers_names_list"


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in ((tmp_path / "nothing", "cannot be read"), (binary, "is no text")):
        with pytest.raises(OptionError, match=words):
            detection_head(layers(SSD), CompileOptions(meta_layers_names_list=str(path)))
