"""Model files that lie: they are read or refused, without much memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowtide.errors import LowtideError
from lowtide.frontend import ImportRequest, load_model
from lowtide.plugin import discover
from support import MODEL

REGISTRY = discover()
MEGABYTES = 256
"""Far above what any file here takes, far below an allocation that a length in the file may ask for."""

OFFSETS = st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"])


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Flips, numbers that look like offsets, gaps and truncations, at places given as shares of the file."""
    places = st.floats(0, 1, exclude_max=True)
    kinds = st.one_of(
        st.tuples(st.just("put"), places, st.binary(min_size=1, max_size=1)),
        st.tuples(st.just("put"), places, OFFSETS),
        st.tuples(st.just("put"), places, st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "little"))),
        st.tuples(st.just("cut"), places, st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("end"), places, st.just(b"")),
    )
    return draw(st.lists(kinds, min_size=1, max_size=12))


def damaged(content: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    data = bytearray(content)
    for kind, share, put in damage:
        at = int(share * len(data))
        if kind == "put":
            data[at : at + len(put)] = put
        elif kind == "cut":
            del data[at : at + len(put)]
        elif at > len(data) // 2:
            del data[at:]
    return bytes(data)


def load(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        load_model(path, REGISTRY, ImportRequest())
    except LowtideError as error:
        assert str(path) in str(error) or error.place  # noqa: PT017 - both outcomes are right
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MEGABYTES << 20


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages())
def test_a_damaged_onnx_file_is_read_or_refused(
    tmp_path: Path, damage: list[tuple[str, float, bytes]]
) -> None:
    load(tmp_path / "net.onnx", damaged(MODEL.read_bytes(), damage))


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_bytes_behind_the_identifier_are_read_or_refused(content: bytes) -> None:
    from lowtide_plugins.frontends.tflite_format.reader import read_model

    with pytest.raises(LowtideError):
        read_model(content[:4].ljust(4, b"\0") + b"TFL3" + content)


REAL = (
    "tflm_hello_world_int8.tflite",
    "mlperf_kws_dscnn_int8.tflite",
    "aieq_mnist_quantized.tflite",
    "mlperf_sww_int8.tflite",
    "mcunet_detection.tflite",
    "ortq_cifar10_resnet20_qdq_s8s8_pt_sym.onnx",
    "alibaba_kws.onnx",
    "mnist_cntk.onnx",
)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages())
def test_damaged_published_files_are_read_or_refused(
    tmp_path: Path, name: str, damage: list[tuple[str, float, bytes]]
) -> None:
    root = os.environ.get("LOWTIDE_REAL_DATA")
    if not root:
        pytest.skip("LOWTIDE_REAL_DATA names no folder")
    content = (Path(root) / "models" / name).read_bytes()
    load(tmp_path / f"net{Path(name).suffix}", damaged(content, damage))
