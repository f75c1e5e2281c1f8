"""The way from a model file to a quantized network, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from lowtide.calibrate import (
    Calibrator,
    Collected,
    NumberFormat,
    Range,
    Statistic,
    StatisticsCache,
    calibrate,
    collect,
)
from lowtide.compiler.progress import Clock, Progress
from lowtide.compiler.run import input_specs, preprocess_for
from lowtide.data import DataSource, Preprocess, open_data
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError, OptionError, UnsupportedModelError
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Graph
from lowtide.measure import Measurement, measure_layers
from lowtide.options import OptionLayer, ResolvedOptions, resolve_options
from lowtide.passes import (
    Pass,
    PassContext,
    PassRun,
    parse_configured,
    parse_pipeline,
    print_pipeline,
    run_pipeline,
)
from lowtide.plugin import CalibratorSpec, Registry, StatisticSpec, StrategySpec
from lowtide.precision import (
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    check_plan,
    precision_classes,
    quantized_values,
)
from lowtide.quantize.solve import SolveRequest, solve
from lowtide.target import Placement, ScaleRule, Target, load_target, place, scale_rule

FLOAT_BITS = 32
"""The value of ``tensor_bits`` that leaves the network float."""

LEVEL_CALIBRATORS = {0: "moving-average", 1: "minmax"}
"""What an accuracy level means for the range of activations when no calibrator is named."""


QUANTIZED_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"})


def refuse_quantized(graph: Graph) -> None:
    """Refuse a network that is quantized already: it would be quantized twice.

    Raises:
        UnsupportedModelError: naming the first node that shows it.
    """
    for node in graph:
        if node.op in QUANTIZED_OPS:
            raise UnsupportedModelError(
                "the model is quantized already",
                place=node.place,
                hint="give the float model that it was made from",
            )


@attrs.frozen(kw_only=True)
class CompileRequest:
    """What the user asks for.

    Attributes:
        model: a model file, or a graph.
        target: name or alias of the device.
        data: calibration data, see `lowtide.data.open_data`; not needed when nothing is calibrated.
        frames: use this many evenly spread frames of the data.
        options: where options come from, the strongest last.
        preprocess: how images become arrays.
        cache: where statistics are kept between compiles; ``None`` keeps none.
        after_pass: called with every pass and the graph that it left.
    """

    model: Path | Graph
    target: str
    data: object = None
    frames: int | None = None
    labels: str | None = None
    options: Sequence[OptionLayer] = ()
    preprocess: Preprocess | None = None
    cache: StatisticsCache | None = None
    registry: Registry
    progress: Progress = attrs.field(factory=Progress)
    after_pass: Callable[[Pass, Graph], None] | None = None


@attrs.define
class Compilation:
    """A compile under way; every stage sets what later ones read."""

    request: CompileRequest
    clock: Clock
    target: Target
    options: ResolvedOptions
    rule: ScaleRule
    diagnostics: Diagnostics = attrs.field(factory=Diagnostics)
    graph: Graph = attrs.field(factory=Graph)
    reference: Graph = attrs.field(factory=Graph)
    imported_nodes: int = 0
    runs: list[tuple[str, PassRun]] = attrs.field(factory=list[tuple[str, PassRun]])
    pipelines: dict[str, str] = attrs.field(factory=dict[str, str])
    source: DataSource | None = None
    placement: Placement = attrs.field(factory=lambda: Placement(()))
    collected: Collected | None = None
    calibrator: str = ""
    plan: PrecisionPlan = attrs.field(factory=lambda: PrecisionPlan({}, {}))
    ranges: dict[str, Range] = attrs.field(factory=dict[str, Range])
    solved: SolveRequest | None = None
    measurement: Measurement | None = None

    @classmethod
    def begin(cls, request: CompileRequest) -> Compilation:
        """Resolve target and options; nothing is read yet.

        Raises:
            UnknownNameError: when nobody provides the target.
            OptionError: for an unknown or impossible option, or a number of frames below one.
            UnsupportedByTargetError: when the device cannot do what the options ask for.
        """
        if request.frames is not None and request.frames < 1:
            raise OptionError(f"expected at least 1, found {request.frames}", place="frames")
        target = load_target(request.target, request.registry)
        defaults = OptionLayer(f"device {target.name}", dict(target.option_defaults))
        resolved = resolve_options([defaults, *request.options])
        chosen = resolved.options.quantization_scale_type
        number = target.default_scale_type if chosen is None else chosen
        rule = scale_rule(target, number)
        bits = resolved.options.tensor_bits
        if bits != FLOAT_BITS and bits not in target.bits:
            raise OptionError(f"{target.name} has {target.bits} bits, found {bits}", place="tensor_bits")
        return cls(request, Clock(request.progress), target, resolved, rule)

    @property
    def is_float(self) -> bool:
        """Whether the user asked for the float network, for debugging."""
        return self.options.options.tensor_bits == FLOAT_BITS

    def run(self) -> None:
        """All stages."""
        with self.clock.stage("import"):
            self.import_model()
        with self.clock.stage("prepare"):
            self.prepare()
        with self.clock.stage("place"):
            self.placement = place(self.graph, self.target, self.options.options, self.diagnostics)
        self.open_frames()
        if not self.is_float:
            self.quantize()
        if self.source is not None:
            with self.clock.stage("measure"):
                self.measure()

    def import_model(self) -> None:
        """Read the model."""
        request, options = self.request, self.options.options
        if isinstance(request.model, Graph):
            self.graph = request.model.clone()
        else:
            wanted = ImportRequest(input_shapes=dict(options.input_shapes), diagnostics=self.diagnostics)
            self.graph = load_model(request.model, request.registry, wanted, frontend=options.frontend)
        self.imported_nodes = len(self.graph)
        refuse_quantized(self.graph)

    def prepare(self) -> None:
        """Bring the graph into the form that the target wants."""
        self.run_passes("prepare", self.options.options.prepare or self.target.prepare)
        self.reference = self.graph.clone()

    def run_passes(self, stage: str, text: str) -> None:
        """Run a pipeline and note what it did."""
        passes = parse_pipeline(text, self.request.registry)
        context = PassContext(
            diagnostics=self.diagnostics,
            options=self.options.options,
            target=self.target,
            placement=self.placement,
            reference=self.reference,
            frames=self.source,
            statistics=self.collected,
            request=self.solved,
            plan=self.plan,
        )
        runs = run_pipeline(
            self.graph, passes, context, registry=self.request.registry, after_each=self.request.after_pass
        )
        self.runs += [(stage, run) for run in runs]
        self.pipelines[stage] = print_pipeline(passes)

    def open_frames(self) -> None:
        """Open the data now that the inputs are known.

        Raises:
            DataError: when data is missing or does not fit.
        """
        request, options = self.request, self.options.options
        if request.data is None:
            if self.is_float:
                return
            raise DataError("no calibration data is given", hint="--data FOLDER, FILE.npz or module:function")
        source = open_data(
            request.data,
            input_specs(self.graph),
            preprocess=preprocess_for(options, request.preprocess),
            labels=request.labels,
            seed=options.seed,
            diagnostics=self.diagnostics,
        )
        count = request.frames or options.calibration_frames
        self.source = source if count is None else source.select(count)
        if self.source.synthetic:
            self.diagnostics.warning(
                "LT755",
                self.source.describe(),
                "the calibration data is random: ranges and errors say nothing about real inputs",
                "give real frames with --data",
            )

    def quantize(self) -> None:
        """Collect, calibrate, plan, solve, and improve the weights."""
        registry, options = self.request.registry, self.options.options
        self.calibrator = options.calibrator or LEVEL_CALIBRATORS[options.accuracy_level]
        calibrator: Calibrator = parse_configured(self.calibrator, registry, CalibratorSpec)
        values = quantized_values(self.graph, self.target, self.placement)
        with self.clock.stage("collect"):
            self.collected = self.collect(calibrator, [value.name for value in values])
        with self.clock.stage("calibrate"):
            self.assign_widths()
            provider = str(registry.provider(registry.get(CalibratorSpec, calibrator.name)))
            self.ranges = calibrate(self.collected, calibrator, self.formats(), provider=provider)
        with self.clock.stage("solve"):
            self.solve()
        with self.clock.stage("weights"):
            default = self.target.weights.get(str(options.accuracy_level), "")
            self.run_passes("weights", default if options.weights is None else options.weights)

    def collect(self, calibrator: Calibrator, tensors: list[str]) -> Collected:
        """Run the frames for all statistics that the calibrator wants."""
        assert self.source is not None  # noqa: S101 - open_frames refuses to go on without data
        registry = self.request.registry
        kinds: list[type[Statistic]] = [registry.load(StatisticSpec, name) for name in calibrator.statistics]
        return collect(
            self.graph,
            self.source,
            kinds,
            tensors=tensors,
            array_frames=self.options.options.statistics_frames,
            progress=self.clock.progress.advance,
            cache=self.request.cache,
            diagnostics=self.diagnostics,
        )

    def assign_widths(self) -> None:
        """Ask the strategy for widths and check its answer."""
        registry, options = self.request.registry, self.options.options
        problem = PrecisionProblem(
            graph=self.graph,
            target=self.target,
            placement=self.placement,
            options=options,
            classes=precision_classes(self.graph, self.target, self.placement),
        )
        strategy: PrecisionStrategy = parse_configured(options.strategy, registry, StrategySpec)
        self.plan = strategy.plan(problem)
        provider = registry.provider(registry.get(StrategySpec, strategy.name))
        check_plan(self.plan, problem, f"the strategy {options.strategy} of {provider}")

    def formats(self) -> dict[str, NumberFormat]:
        """What numbers each tensor will be stored in, for calibrators that care."""
        return {
            tensor: NumberFormat(
                bits=bits,
                symmetric=self.rule.activation == "symmetric",
                power_of_two=self.rule.activation_scale == "power-of-two",
            )
            for tensor, bits in self.plan.activations.items()
        }

    def solve(self) -> None:
        """Give every tensor its parameters."""
        options = self.options.options
        self.solved = SolveRequest(
            target=self.target,
            rule=self.rule,
            placement=self.placement,
            plan=self.plan,
            ranges=self.ranges,
            channel_wise=bool(options.channel_wise_quantization),
            clip_bias=options.bias_clipping,
            diagnostics=self.diagnostics,
        )
        solve(self.graph, self.solved)

    def measure(self) -> None:
        """Compare with the float network, layer by layer."""
        assert self.source is not None  # noqa: S101 - the caller checks
        count = self.options.options.measure_frames
        frames = self.source.select(count)
        self.measurement = measure_layers(
            self.reference, self.graph, frames, progress=self.clock.progress.advance
        )
