"""The way from a model file to a quantized network, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from lowtide.calibrate import Collected, Range
from lowtide.compiler.device_options import impossible, scale_type, with_device_notes
from lowtide.compiler.diagnose import diagnose
from lowtide.compiler.floats import quantize_float
from lowtide.compiler.goal import read_goal
from lowtide.compiler.prequantized import (
    check_scale_type,
    choose_rule,
    keep_codes,
    note_kept_codes,
    quantized_already,
)
from lowtide.compiler.progress import Clock
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.run import Device, input_specs, preprocess_for
from lowtide.compiler.trials import Trial
from lowtide.data import DataSource, open_data
from lowtide.diagnostics import Diagnostics
from lowtide.encodings import Encodings
from lowtide.errors import DataError, OptionError, counted, noted, short_name
from lowtide.exact import find_profile
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Graph, layers
from lowtide.measure import (
    Agreement,
    Measurement,
    measure_agreement,
    measure_exact_layers,
    measure_layers,
    spans,
)
from lowtide.options import FLOAT_BITS, CompileOptions, OptionLayer, ResolvedOptions, resolve_options
from lowtide.passes import PassContext, PassRun, parse_pipeline, print_pipeline, run_pipeline
from lowtide.precision import PrecisionPlan
from lowtide.quantize.codes import quantized_activations, remove_codes
from lowtide.quantize.solve import SolveRequest
from lowtide.report.model import Finding, GoalReport
from lowtide.target import Placement, ScaleRule, Target, load_target, place, scale_rule


@attrs.define
class Compilation:
    """A compile under way; every stage sets what later ones read.

    Attributes:
        scale_type: the number of `rule` among those of the target.
        prequantized: whether the graph has codes of its own, which are kept.
        prepared: the float network before calibration, which judges whatever is made of it.
        reference: what was quantized; it computes about the same as `prepared`, from tensors that may be
            scaled, so that tensors inside are compared with it.
        encodings: what was known before calibration.
        trials: what the recipe tried.
        goal: how the finished network stands to the goal of the search for widths.
        interrupted: whether the user stopped that search, so that another one may find better widths.
        search_passes: what a search for widths cost, in runs of the network for each calibration frame.
        judges: the frames that the recipe held out, all where it tried nothing; ``None`` without any.
        imported: the network as it stood in the model file.
        findings: why the worst layers lose accuracy.
    """

    request: CompileRequest
    clock: Clock
    target: Target
    resolved: ResolvedOptions
    scale_type: int
    rule: ScaleRule
    diagnostics: Diagnostics = attrs.field(factory=Diagnostics)
    graph: Graph = attrs.field(factory=Graph)
    imported: Graph = attrs.field(factory=Graph)
    prepared: Graph = attrs.field(factory=Graph)
    reference: Graph = attrs.field(factory=Graph)
    prequantized: bool = False
    runs: list[tuple[str, PassRun]] = attrs.field(factory=list[tuple[str, PassRun]])
    pipelines: dict[str, str] = attrs.field(factory=dict[str, str])
    source: DataSource | None = None
    placement: Placement = attrs.field(factory=lambda: Placement(()))
    encodings: Encodings = attrs.field(factory=lambda: Encodings(origin=""))
    collected: Collected | None = None
    calibrator: str = ""
    plan: PrecisionPlan = attrs.field(factory=lambda: PrecisionPlan({}, {}))
    ranges: dict[str, Range] = attrs.field(factory=dict[str, Range])
    solved: SolveRequest | None = None
    trials: list[Trial] = attrs.field(factory=list[Trial])
    goal: GoalReport | None = None
    interrupted: bool = False
    search_passes: float | None = None
    judges: DataSource | None = None
    measurement: Measurement | None = None
    agreement: Agreement | None = None
    findings: tuple[Finding, ...] = ()

    @classmethod
    def begin(cls, request: CompileRequest) -> Compilation:
        """Resolve target and options; nothing is read yet.

        Raises:
            UnknownNameError: when nobody provides the target.
            OptionError: for an unknown or impossible option, one that the strategy does not use, or a number
                of frames below one.
            UnsupportedByTargetError: when the device cannot do what the options ask for.
        """
        if request.frames is not None and request.frames < 1:
            raise OptionError(f"expected at least 1, found {request.frames}", place="frames")
        target = load_target(request.target, request.registry)
        defaults = OptionLayer(f"device {target.name}", dict(target.option_defaults))
        resolved = resolve_options([defaults, *request.options])
        for reason in impossible(resolved, target, request.registry):
            raise reason
        if resolved.options.arithmetic is not None:
            find_profile(resolved.options.arithmetic)
        if resolved.options.goal is not None:
            read_goal(resolved.options.goal, request.registry)
        resolved = with_device_notes(resolved, target, request.registry)
        number = scale_type(resolved, target)
        rule = scale_rule(target, number)
        made = cls(request, Clock(request.progress), target, resolved, number, rule)
        made._note_missing_plugins()
        return made

    def _note_missing_plugins(self) -> None:
        registry = self.request.registry
        for provider, reason in {**registry.broken, **registry.unfit}.items():
            self.diagnostics.warning(
                "LT351",
                f"plugin {provider}",
                f"it is not loaded: {' '.join(reason.split())}",
                f"see `lowtide plugins`; --disable-plugin {provider.entry_point} does without it",
            )

    @property
    def options(self) -> CompileOptions:
        """The effective values."""
        return self.resolved.options

    @property
    def is_float(self) -> bool:
        """Whether the user asked for the float network, for debugging."""
        return self.options.tensor_bits == FLOAT_BITS

    def run(self) -> None:
        """All stages."""
        with self.clock.stage("import"):
            self.import_model()
        with self.clock.stage("prepare"):
            self.prepare()
        with self.clock.stage("place"):
            self.placement = place(self.graph, self.target, self.options, self.diagnostics)
        self.open_frames()
        if self.prequantized:
            keep_codes(self)
        elif not self.is_float:
            quantize_float(self)
        if self.source is not None:
            with self.clock.stage("measure"):
                self.measure()
            if not self.is_float and quantized_activations(self.graph):
                with self.clock.stage("verify"):
                    self.verify()
                with self.clock.stage("diagnose"):
                    self.findings = diagnose(self)

    def import_model(self) -> None:
        """Read the model; codes that it has stay where the options let them."""
        request, wanted = self.request, ImportRequest(diagnostics=self.diagnostics)
        if isinstance(request.model, Graph):
            self.graph = request.model.clone()
        else:
            wanted.input_shapes = dict(self.options.input_shapes)
            self.graph = load_model(request.model, request.registry, wanted, frontend=self.options.frontend)
        self.imported = self.graph.clone()
        self.prequantized = quantized_already(self.graph, self.options)
        check_scale_type(self, wanted.scale_type)
        if self.prequantized and not self.is_float and self.options.recalibrate != "data":
            self.scale_type, self.rule = choose_rule(self, wanted.scale_type)
            note_kept_codes(self)
        elif self.prequantized:
            remove_codes(self.graph)
            self.prequantized = False

    def prepare(self) -> None:
        """Bring the graph into the form that the target wants."""
        chosen = self.options.prepare
        text = chosen or self.target.prepare
        with noted("in the option prepare" if chosen else f"in target {self.target.name}: prepare"):
            parse_pipeline(text, self.request.registry)
        self.run_passes("prepare", text)
        self.reference = self.graph.clone()
        remove_codes(self.reference)
        self.prepared = self.reference

    @property
    def device(self) -> Device:
        """How the device rounds, and what runs on the host.

        Raises:
            OptionError: when the options name an arithmetic that does not exist.
        """
        return self.device_of(self.placement)

    def device_of(self, placement: Placement) -> Device:
        """The same for another placement."""
        host = (entry.layer for entry in placement.assignments if entry.device == "host")
        return Device(find_profile(self.options.arithmetic or self.rule.arithmetic), frozenset(host))

    def context(self) -> PassContext:
        """What passes may look at, as far as it is known."""
        return PassContext(
            diagnostics=self.diagnostics,
            options=self.options,
            target=self.target,
            rule=self.rule,
            placement=self.placement,
            reference=self.reference,
            frames=self.source,
            statistics=self.collected,
            request=self.solved,
            plan=self.plan,
        )

    def run_passes(self, stage: str, text: str) -> None:
        """Run a pipeline and note what it did."""
        passes = parse_pipeline(text, self.request.registry)
        runs = run_pipeline(
            self.graph,
            passes,
            self.context(),
            registry=self.request.registry,
            after_each=self.request.after_pass,
        )
        self.runs += [(stage, run) for run in runs]
        self.pipelines[stage] = print_pipeline(passes)

    def open_frames(self) -> None:
        """Open the data now that the inputs are known.

        Raises:
            DataError: when data is missing or does not fit.
        """
        request, options = self.request, self.options
        if request.data is None:
            return  # whether that will do is known when all is done that needs none
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
        self._note_missing("frames" if request.frames else "calibration_frames", count)
        self._note_missing("search_frames", options.search_frames)

    def _note_missing(self, option: str, wanted: int | None) -> None:
        assert self.source is not None  # noqa: S101 - the caller opens it
        if wanted is not None and (found := self.source.select(wanted).count or 0) < wanted:
            self.diagnostics.info(
                "LT758", option, f"{wanted} frames are asked for, and there are {found}: all are taken"
            )

    def needed_frames(self, tensors: Sequence[str]) -> DataSource:
        """The frames, for tensors that cannot do without.

        Raises:
            DataError: when none are given.
        """
        if self.source is None:
            shown = ", ".join(map(short_name, tensors[:3])) + (", …" if len(tensors) > 3 else "")
            unknown = f"no known range for {counted(len(tensors), 'tensor')}: {shown}"
            # Whatever knows the ranges of all else takes those of pixels from these options.
            only_inputs = {value.name for value in self.graph.inputs}.issuperset(tensors)
            pixels = "; input_mean and input_scale give the range of pixels, too" if only_inputs else ""
            raise DataError(
                f"no calibration data is given, and {unknown}",
                hint=f"--data FOLDER, FILE.npz or module:function{pixels}",
            )
        return self.source

    def measured_frames(self) -> DataSource:
        """The frames that errors are measured on: none that passes learned from, where there are others."""
        assert self.source is not None  # noqa: S101 - the caller checks
        return (self.judges or self.source).select(self.options.measure_frames)

    def measure(self) -> None:
        """Compare with the float network, layer by layer, as the device computes.

        Layers are compared with the network that was quantized, whose tensors are those of the device:
        against tensors before they were scaled every error would be that of the scaling. Outputs are compared
        with the prepared network, so that what conditioning has changed counts as error.
        """
        self._note_uncompared()
        frames = self.measured_frames()
        known, progress = spans(self.graph, self.ranges), self.clock.progress.advance
        if self.is_float or not quantized_activations(self.graph):
            self.measurement = measure_layers(
                self.reference, self.graph, frames, judge=self.prepared, spans=known, progress=progress
            )
            return
        device = self.device
        self.measurement = measure_exact_layers(
            self.reference,
            self.graph,
            device.profile,
            sorted(device.on_host),
            frames,
            judge=self.prepared,
            spans=known,
            progress=progress,
        )

    def _note_uncompared(self) -> None:
        made = [value for layer in layers(self.graph) for value in layer.outputs]
        loose = sorted((v for v in made if not v.type.is_static), key=lambda v: not self.graph.is_output(v))
        if loose:
            shown = ", ".join(short_name(v.name) for v in loose[:3]) + (", …" if len(loose) > 3 else "")
            self.diagnostics.info(
                "LT888",
                shown,
                "data decide how many elements there are, so those of the float and of the quantized network "
                "cannot be compared one by one: no error is given, and what they are computed from is judged",
            )

    def verify(self) -> None:
        """Compare what the device computes, integer by integer, with the emulation and the float network."""
        device = self.device
        self.agreement = measure_agreement(
            self.prepared,
            self.graph,
            device.profile,
            sorted(device.on_host),
            self.measured_frames(),
            progress=self.clock.progress.advance,
        )
        for layer in self.agreement.suspicious:
            largest = self.agreement.layers[layer].largest
            self.diagnostics.warning(
                "LT881",
                layer,
                f"exact execution and the Q/DQ emulation differ by {largest} codes on the same input, which "
                "rounding does not explain",
                "one of the two is wrong: please report the model",
            )
