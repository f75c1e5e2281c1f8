"""What a compile returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from lowtide.calibrate import Range
from lowtide.compiler.run import Device, Mode, execute, input_specs
from lowtide.data import Preprocess, open_data
from lowtide.errors import counted
from lowtide.ir import Array, Graph
from lowtide.options import ResolvedOptions
from lowtide.plugin import Registry
from lowtide.precision import PrecisionPlan
from lowtide.report.model import Report
from lowtide.target import Placement, Target


@attrs.frozen(kw_only=True, repr=False)
class CompileResult:
    """A compiled network with its evidence.

    Attributes:
        graph: the quantized network.
        reference: the prepared float network, which judges the quantized one.
        conditioned: the float network that was quantized, whose tensors have names and scales of those of
            the quantized one; the reference itself where no pass of ``condition`` changed it.
        ranges: the calibrated range of every quantized activation, by tensor name.
        pipelines: the text of the pipelines as they ran, by stage.
        digests: SHA-256 of model and data, in hexadecimal; no entry for data that has none.
        device: how the device rounds, and what runs on the host.
        interrupted: whether the user stopped the search for widths; it has the best so far.
        report: everything that there is to tell; printing it with rich shows the terminal report.
        preprocess: how images became arrays; ``None`` where nothing was said about that.
    """

    graph: Graph
    reference: Graph
    conditioned: Graph
    target: Target
    options: ResolvedOptions
    placement: Placement
    plan: PrecisionPlan
    ranges: Mapping[str, Range]
    pipelines: Mapping[str, str]
    digests: Mapping[str, str]
    device: Device
    interrupted: bool
    report: Report
    registry: Registry
    preprocess: Preprocess | None = None

    def __repr__(self) -> str:
        outputs = ", ".join(f"{entry.name} {entry.sqnr_db:.1f} dB" for entry in self.report.outputs)
        size = counted(len(self.report.layers), "layer")
        return f"<{type(self).__name__} of {self.graph.name} for {self.target.name}: {size}; {outputs}>"

    def run(self, frame: object, mode: Mode = "qdq") -> dict[str, Array]:
        """Run one frame.

        Args:
            frame: an array for the only input, or one for every input by name; fitted as frames of
                calibration data are: the batch axis may be left out.
            mode: ``float`` the prepared float network, ``qdq`` the quantized one as ONNX Runtime emulates it,
                ``exact`` what the device computes, integer by integer.

        Returns:
            The outputs by name.

        Raises:
            DataError: when an input is missing, has another shape or holds NaN.
            OptionError: when there is no such mode.
        """
        graph = self.reference if mode == "float" else self.graph
        (fitted,) = open_data([frame], input_specs(graph)).frames()
        return execute(graph, fitted.feeds, mode, self.device)

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the output folder in one step: it appears whole or not at all.

        Args:
            folder: where to.
            force: replace a folder that an earlier compile wrote.

        Raises:
            OutputError: when the folder exists or cannot be written.
        """
        from lowtide.compiler.output import write_output  # noqa: PLC0415 - writing needs this class

        return write_output(self, Path(folder), force=force)
