"""Preprocessing in words, for the terminal."""

from __future__ import annotations

from lowtide.data.preprocess import Preprocess, Size


def preprocess_in_words(chosen: Preprocess) -> dict[str, str]:
    """What happens to a picture, step by step: the name of each step and what it does."""
    steps = {"resize": _resize(chosen)}
    if chosen.crop is not None:
        steps["crop"] = f"to the centre, {_size(chosen.crop)}"
    steps["channels"] = "blue first (BGR)" if chosen.reverse_channels else "red first (RGB)"
    steps["mean"] = f"{_numbers(chosen.mean)} subtracted" if chosen.mean else "none"
    steps["scale"] = f"times {_numbers(chosen.scale)}" if chosen.scale else "none"
    steps["layout"] = chosen.layout or "as the input has it"
    if chosen.backend == "cv2":
        steps["library"] = (
            "Pillow in place of OpenCV (cv2): it averages when it shrinks, so pixels differ slightly"
        )
    elif chosen.backend == "pil":
        steps["library"] = "Pillow (pil), as it says"
    return steps


def _resize(chosen: Preprocess) -> str:
    how = chosen.interpolation
    if chosen.resize is None:
        return "none" if chosen.crop is not None else f"to the size of the input, {how}"
    if chosen.resize_with_pad is None:
        side = isinstance(chosen.resize, int)
        to = f"shorter side to {chosen.resize}" if side else f"to {_size(chosen.resize)}"
        return f"{to}, {how}"
    where = "at the right and bottom" if chosen.resize_with_pad == "corner" else "on both sides"
    color = " ".join(map(str, chosen.pad_color))
    return f"into {_size(chosen.resize)} with the aspect ratio kept, {how}, padded {where} with {color}"


def _size(size: int | Size) -> str:
    high, wide = (size, size) if isinstance(size, int) else size
    return f"{high} high, {wide} wide"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.10g}" for value in values)
