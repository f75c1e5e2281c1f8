"""The Python entry points: compile a network, load an output folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]  # it ships no types

from lowtide.calibrate import StatisticsCache
from lowtide.compiler.progress import Progress
from lowtide.compiler.request import CompileRequest, model_digest
from lowtide.compiler.result import CompileResult
from lowtide.compiler.run import preprocess_for
from lowtide.compiler.stages import Compilation
from lowtide.compiler.summary import build_report
from lowtide.data import Preprocess
from lowtide.errors import OptionError
from lowtide.ir import Graph
from lowtide.narrow import is_mapping, is_sequence
from lowtide.options import OptionLayer
from lowtide.passes import Pass
from lowtide.plugin import Registry, discover


def compile(  # noqa: A001 - `lowtide.compile` says what it does, as `re.compile` does
    model: str | Path | Graph,
    *,
    target: str,
    data: object = None,
    frames: int | None = None,
    labels: str | None = None,
    options: Mapping[str, object] | Sequence[OptionLayer] | None = None,
    preprocess: Preprocess | None = None,
    calibrator: str | None = None,
    strategy: str | None = None,
    pipeline: str | None = None,
    cache: StatisticsCache | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
    after_pass: Callable[[Pass, Graph], None] | None = None,
) -> CompileResult:
    """Quantize a network for a device.

    Args:
        model: a model file, or a graph.
        target: name or alias of the device, see ``lowtide targets``.
        data: calibration data: a path, an array or a mapping of arrays with a leading frame axis, an
            iterable or callable of
            frames, ``package.module:callable``, or ``random:N``; see `lowtide.data.open_data`.
        frames: use this many evenly spread frames; all by default.
        labels: where labels are, for data that does not bring them.
        options: options by the vendor's or by Lowtide's names, or several layers of them, the strongest last.
        preprocess: how images become arrays.
        calibrator: name of the calibrator; by default what the accuracy level says.
        strategy: name of the precision strategy.
        pipeline: text of the pipeline between solving and measuring, instead of the target's.
        cache: where statistics are kept between compiles.
        registry: the plugins; found by entry point when not given.
        progress: hears of stages and frames.
        after_pass: called with every pass and the graph that it left.

    Raises:
        LowtideError: one of its subclasses for anything that is wrong with the input, naming the place and a
        remedy.
    """
    layers = layers_of(options)
    named = {"calibrator": calibrator, "strategy": strategy, "weights": pipeline}
    given: dict[str, object] = {key: value for key, value in named.items() if value is not None}
    if given:
        layers.append(OptionLayer("argument", given))
    request = CompileRequest(
        model=model,
        target=target,
        data=data,
        frames=frames,
        labels=labels,
        options=layers,
        preprocess=preprocess,
        cache=cache,
        registry=registry or discover(),
        progress=progress or Progress(),
        after_pass=after_pass,
    )
    return compile_request(request)


def compile_request(request: CompileRequest) -> CompileResult:
    """Run all stages for a request; see `compile`."""
    compilation = Compilation.begin(request)
    # Sums of products depend on how many threads share them, and threads that wait for small ones spin.
    with threadpool_limits(1, "blas"):
        compilation.run()
    digests = _digests(compilation)
    result = CompileResult(
        graph=compilation.graph,
        reference=compilation.prepared,
        conditioned=compilation.reference,
        target=compilation.target,
        options=compilation.resolved,
        placement=compilation.placement,
        plan=compilation.plan,
        ranges=compilation.ranges,
        pipelines=compilation.pipelines,
        digests=digests,
        device=compilation.device,
        interrupted=compilation.interrupted,
        report=build_report(compilation, digests),
        registry=request.registry,
        preprocess=preprocess_for(compilation.options, request.preprocess),
    )
    request.registry.notify("lowtide_compile_finished", result=result)
    return result


def layers_of(options: object) -> list[OptionLayer]:
    """Options as a caller hands them in, as layers.

    Raises:
        OptionError: for anything but a mapping or layers.
    """
    if options is None or is_mapping(options):
        return [OptionLayer("Python", dict(options or {}))]
    layers: list[OptionLayer] = []
    for layer in options if is_sequence(options) else [options]:
        if not isinstance(layer, OptionLayer):
            raise OptionError(
                f"expected a mapping or a sequence of OptionLayer, found {layer!r}",
                place="options",
                hint="a file is read with lowtide.options.load_options_file(path).layer",
            )
        layers.append(layer)
    return layers


def _digests(compilation: Compilation) -> dict[str, str]:
    found = {"model": model_digest(compilation.request.model)}
    fingerprint = compilation.source.fingerprint() if compilation.source else None
    if fingerprint is not None:
        found["data"] = fingerprint
    return found
