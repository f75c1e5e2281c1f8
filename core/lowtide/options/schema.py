"""All options, by the vendor's names where they are the vendor's.

Source: the vendor's published option lists of its compile tools and of its benchmark and runner repositories.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lowtide.options.fields import Effect, Kind, OptionInfo, option

A = "advanced_options:"
_VENDOR = Effect.VENDOR_ONLY


@attrs.frozen(kw_only=True)
class CompileOptions:
    """The effective value of every option; field names are the keys without their prefix."""

    tensor_bits: int = option(
        "tensor_bits", Kind.INT, 8, "width of tensors; 32 is float", choices=(8, 16, 32)
    )
    accuracy_level: int = option(
        "accuracy_level",
        Kind.INT,
        1,
        "0: plain; 1: whatever makes the error fall; 2: ranges from one histogram, calibrated biases; 9: as "
        "the four flags say",
        choices=(0, 1, 2, 9),
    )
    quantization_scale_type: int | None = option(
        f"{A}quantization_scale_type",
        Kind.INT,
        None,
        "0: non-power-of-two; 1: power-of-two; 3: that of an integer TFLite file, which keeps its codes; 4: "
        "asymmetric; default: the device's",
        choices=(0, 1, 3, 4),
    )
    calibration_frames: int | None = option(
        f"{A}calibration_frames",
        Kind.INT,
        None,
        "use this many evenly spread frames; default: all",
        minimum=1,
    )
    calibration_iterations: int = option(
        f"{A}calibration_iterations",
        Kind.INT,
        50,
        "batches of the vendor's bias calibration; the closed forms need none",
        minimum=1,
    )
    activation_clipping: bool = option(
        f"{A}activation_clipping", Kind.FLAG, True, "ranges leave out outliers; level 9 only"
    )
    weight_clipping: bool = option(
        f"{A}weight_clipping", Kind.FLAG, True, "outliers among weights saturate; level 9 only"
    )
    bias_calibration: bool = option(
        f"{A}bias_calibration", Kind.FLAG, True, "the vendor's bias calibration; level 9 only"
    )
    bias_calibration_factor: float = option(
        f"{A}bias_calibration_factor",
        Kind.FLOAT,
        0.05,
        "first step of the vendor's bias calibration, halved when all frames have been seen",
        above=0,
        maximum=1,
    )
    channel_wise_quantization: bool = option(
        f"{A}channel_wise_quantization",
        Kind.FLAG,
        False,
        "a weight scale per channel for depthwise convolutions under scale types 0 and 1",
    )
    bias_clipping: bool = option(
        f"{A}bias_clipping",
        Kind.FLAG,
        False,
        "where biases have 16 bits: 1 lets them saturate, 0 raises the weight scale instead",
    )
    mixed_precision_factor: float = option(
        f"{A}mixed_precision_factor",
        Kind.FLOAT,
        -1.0,
        "latency budget of mixed precision, as a multiple of that with 8 bits: above 1; -1: none",
    )
    output_feature_16bit_names_list: tuple[str, ...] = option(
        f"{A}output_feature_16bit_names_list",
        Kind.NAMES,
        (),
        "layers whose output and parameters have 16 bits",
    )
    params_16bit_names_list: tuple[str, ...] = option(
        f"{A}params_16bit_names_list", Kind.NAMES, (), "layers whose parameters have 16 bits"
    )
    prequantized_model: bool | None = option(
        f"{A}prequantized_model",
        Kind.FLAG,
        None,
        "1: scales come from the model; 0: the model must be in float; default: as the model is",
    )
    quant_params_proto_path: str = option(
        f"{A}quant_params_proto_path", Kind.TEXT, "", "quantization proto, read if it exists, else written"
    )
    pre_batchnorm_fold: bool = option(
        f"{A}pre_batchnorm_fold", Kind.FLAG, True, "fold a batch normalization into the layer behind it"
    )
    add_data_convert_ops: int = option(
        f"{A}add_data_convert_ops",
        Kind.INT,
        0,
        "conversions at the borders",
        effect=_VENDOR,
        choices=(0, 1, 2, 3),
    )
    high_resolution_optimization: bool = option(
        f"{A}high_resolution_optimization", Kind.FLAG, False, "memory tiling", effect=_VENDOR
    )
    enable_tfr_optimization: int = option(
        f"{A}enable_tfr_optimization", Kind.INT, 0, "transformer blocks", effect=_VENDOR, choices=(0, 1, 2)
    )
    net_inelement_type: str = option(
        f"{A}net_inelement_type", Kind.TEXT, "", "element type of the input", effect=_VENDOR
    )
    deny_list_layer_type: tuple[str, ...] = option(
        "deny_list:layer_type", Kind.NAMES, (), "operators that run on the host"
    )
    deny_list_layer_name: tuple[str, ...] = option(
        "deny_list:layer_name", Kind.NAMES, (), "layers that run on the host"
    )
    allow_list_layer_name: tuple[str, ...] = option(
        "allow_list:layer_name", Kind.NAMES, (), "layers that alone run on the accelerator"
    )
    max_num_subgraphs: int | None = option(
        "max_num_subgraphs",
        Kind.INT,
        None,
        "parts that the accelerator may get; default: the device's",
        minimum=1,
    )
    max_num_subgraph_nodes: int = option(
        f"{A}max_num_subgraph_nodes", Kind.INT, 864, "nodes of one part", effect=_VENDOR, minimum=1
    )
    meta_arch_type: int = option(
        "object_detection:meta_arch_type",
        Kind.INT,
        -1,
        "kind of detection head; -1: none",
        effect=_VENDOR,
        choices=(-1, 1, 3, 4, 5, 6, 7, 8, 9, 10),
    )
    meta_layers_names_list: str = option(
        "object_detection:meta_layers_names_list",
        Kind.TEXT,
        "",
        "prototxt of the detection head: what is computed from the tensors that it names runs on the host",
    )
    confidence_threshold: float | None = option(
        "object_detection:confidence_threshold",
        Kind.FLOAT,
        None,
        "of detections",
        effect=_VENDOR,
        minimum=0,
        maximum=1,
    )
    nms_threshold: float | None = option(
        "object_detection:nms_threshold",
        Kind.FLOAT,
        None,
        "of detections",
        effect=_VENDOR,
        minimum=0,
        maximum=1,
    )
    top_k: int | None = option(
        "object_detection:top_k", Kind.INT, None, "of detections", effect=_VENDOR, minimum=1
    )
    keep_top_k: int | None = option(
        "object_detection:keep_top_k", Kind.INT, None, "of detections", effect=_VENDOR, minimum=1
    )
    model_type: str = option("model_type", Kind.TEXT, "", "OD for detectors", effect=_VENDOR)
    inference_mode: int = option(
        f"{A}inference_mode",
        Kind.INT,
        0,
        "use of several cores: 0: one; 1: a batch on several; 2: a frame on several",
        effect=_VENDOR,
        choices=(0, 1, 2),
    )
    num_cores: int = option(f"{A}num_cores", Kind.INT, 1, "cores", effect=_VENDOR, minimum=1)
    core_number: int = option("core_number", Kind.INT, 1, "core, counted from 1", effect=_VENDOR, minimum=1)
    c7x_firmware_version: str = option(
        f"{A}c7x_firmware_version", Kind.TEXT, "", "firmware to compile for", effect=_VENDOR
    )
    debug_level: int = option(
        "debug_level", Kind.INT, 0, "verbosity of the vendor's tool, 0 to 6", effect=_VENDOR, minimum=0
    )
    ti_internal_nc_flag: int = option(
        "ti_internal_nc_flag", Kind.INT, 0, "of the vendor's tool", effect=_VENDOR, minimum=0
    )
    temp_buffer_dir: str = option(f"{A}temp_buffer_dir", Kind.TEXT, "", "scratch folder", effect=_VENDOR)
    log_file_name: str = option(
        f"{A}log_file_name", Kind.TEXT, "", "log of the vendor's tool", effect=_VENDOR
    )
    network_name: str = option(
        f"{A}network_name", Kind.TEXT, "", "name in the vendor's files", effect=_VENDOR
    )
    nms_type: int | None = option(
        "object_detection:nms_type",
        Kind.INT,
        None,
        "0: upright boxes; 1: rotated boxes; 2: circles",
        effect=_VENDOR,
        choices=(0, 1, 2),
    )
    core_start_idx: int = option(
        "core_start_idx", Kind.INT, 1, "first core, counted from 1", effect=_VENDOR, minimum=1
    )
    batch_mode: bool = option(
        f"{A}batch_mode", Kind.FLAG, False, "stitches the batch into the width", effect=_VENDOR
    )
    packetize_mode: bool = option(
        f"{A}packetize_mode", Kind.FLAG, False, "packs sparse weights", effect=_VENDOR
    )
    partial_init_during_compile: bool = option(
        f"{A}partial_init_during_compile",
        Kind.FLAG,
        False,
        "moves initialization to the compile",
        effect=_VENDOR,
    )
    enable_custom_layers: bool = option(
        f"{A}enable_custom_layers", Kind.FLAG, False, "layers of the user's own", effect=_VENDOR
    )
    enable_rt_multi_subgraph_support: bool = option(
        f"{A}enable_rt_multi_subgraph_support",
        Kind.FLAG,
        False,
        "joins parts into one network",
        effect=_VENDOR,
    )
    optimize_batchnorm_higherdims: bool = option(
        f"{A}optimize_batchnorm_higherdims",
        Kind.FLAG,
        False,
        "folds dimensions of batch normalizations",
        effect=_VENDOR,
    )
    graph_optimization_level: int = option(
        f"{A}graph_optimization_level",
        Kind.INT,
        0,
        "rewrites of the vendor's importer",
        effect=_VENDOR,
        choices=(0, 1),
    )
    onnxruntime_graph_optimization_level: str | None = option(
        "onnxruntime:graph_optimization_level",
        Kind.TEXT,
        None,
        "rewrites of ONNX Runtime before the vendor's importer",
        effect=_VENDOR,
    )
    c7x_codegen: bool = option("c7x_codegen", Kind.FLAG, False, "host layers on the DSP", effect=_VENDOR)
    platform: str = option("platform", Kind.TEXT, "", "of the vendor's tools", effect=_VENDOR)
    version: str = option("version", Kind.TEXT, "", "of the vendor's tools", effect=_VENDOR)
    tidl_tools_path: str = option(
        "tidl_tools_path", Kind.TEXT, "", "where the vendor's tools are", effect=_VENDOR
    )
    artifacts_folder: str = option(
        "artifacts_folder", Kind.TEXT, "", "where the vendor's tools write", effect=_VENDOR
    )
    calibrator: str | None = option(
        "calibrator", Kind.TEXT, None, "how ranges come from statistics; default: what the level says"
    )
    strategy: str | None = option(
        "strategy",
        Kind.TEXT,
        None,
        "who assigns widths; default: automatic with a budget, a goal or a point of the front; manual when a "
        "16-bit list names layers; else uniform",
    )
    budget_ms: float | None = option(
        "budget_ms",
        Kind.FLOAT,
        None,
        "latency budget of mixed precision in milliseconds of a frame: above 0",
    )
    goal: str | None = option(
        "goal",
        Kind.TEXT,
        None,
        "what mixed precision has to reach with as little latency as possible: sqnr>=30, or a metric",
    )
    front_point: int | None = option(
        "front_point",
        Kind.INT,
        None,
        "take this point of the front of latency and error, counted from 1 as the report does",
        minimum=1,
    )
    search_frames: int | None = option(
        "search_frames",
        Kind.INT,
        None,
        "frames that a search for widths measures on; default: those held out",
        minimum=1,
    )
    prepare: str | None = option("prepare", Kind.TEXT, None, "pipeline that prepares the network")
    recipe: str | None = option(
        "recipe",
        Kind.TEXT,
        None,
        "what is done and tried for accuracy: a recipe of the device by name, or steps separated by "
        "semicolons; default: that of the level",
    )
    structure: str | None = option(
        "structure", Kind.TEXT, None, "pipeline that changes layers of the float network by what frames show"
    )
    condition: str | None = option(
        "condition", Kind.TEXT, None, "pipeline on the float network before its activations are looked at"
    )
    scales: str | None = option("scales", Kind.TEXT, None, "pipeline on ranges and scales of weights")
    weights: str | None = option("weights", Kind.TEXT, None, "pipeline on the quantized weights")
    statistics_frames: int = option(
        "statistics_frames", Kind.INT, 64, "frames that statistics of whole tensors see", minimum=1
    )
    measure_frames: int = option(
        "measure_frames", Kind.INT, 8, "frames that errors are measured on", minimum=1
    )
    seed: int = option("seed", Kind.INT, 0, "of random data", minimum=0)
    frontend: str | None = option("frontend", Kind.TEXT, None, "who reads the model; default: by its suffix")
    arithmetic: str | None = option(
        "arithmetic",
        Kind.TEXT,
        None,
        "how exact execution rounds: tflite, float32, xnnpack, shift, multiplier; default: as the device",
    )
    recalibrate: str = option(
        "recalibrate",
        Kind.TEXT,
        "no",
        "of a quantized model: no keeps its codes; convert keeps its ranges under the device's own rules; "
        "data calibrates its dequantized weights anew",
        choices=("no", "convert", "data"),
    )
    proto_incomplete: str = option(
        "proto_incomplete",
        Kind.TEXT,
        "stop",
        "when the quantization proto lacks something: stop, or calibrate what it lacks",
        choices=("stop", "calibrate"),
    )
    post_processing: str = option(
        "post_processing",
        Kind.TEXT,
        "host",
        "where boxes are decoded: host, in float, or accelerator, as far as the device has the operators",
        choices=("host", "accelerator"),
    )
    input_shapes: Mapping[str, tuple[int, ...]] = option(
        "input_shapes", Kind.SHAPES, attrs.Factory(dict[str, tuple[int, ...]]), "shapes of inputs left open"
    )
    input_mean: tuple[float, ...] = option("input_mean", Kind.NUMBERS, (), "subtracted from every channel")
    input_scale: tuple[float, ...] = option(
        "input_scale", Kind.NUMBERS, (), "factor of every channel after that"
    )
    input_optimization: bool = option(
        "input_optimization", Kind.FLAG, False, "fold input_mean and input_scale into the network"
    )

    @property
    def chosen_strategy(self) -> str:
        """The strategy, or what the 16-bit lists make of it."""
        listed = self.output_feature_16bit_names_list or self.params_16bit_names_list
        found = "automatic" if self.seeks_widths else "manual" if listed else "uniform"
        return self.strategy or found

    @property
    def seeks_widths(self) -> bool:
        """Whether widths are to be found."""
        wanted = (self.budget_ms, self.goal, self.front_point)
        return self.mixed_precision_factor > 1 or any(entry is not None for entry in wanted)


FIELDS: Mapping[str, OptionInfo] = {
    field.name: field.metadata["option"] for field in attrs.fields(CompileOptions)
}
"""The description of every option by field name."""
