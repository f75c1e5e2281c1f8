"""Model files to graphs: what a frontend is, and which one reads a file."""

from __future__ import annotations

import abc
from pathlib import Path

import attrs

from lowtide.diagnostics import Diagnostics
from lowtide.errors import AmbiguousFrontendError, LowtideError, ModelError
from lowtide.ir import Graph
from lowtide.plugin import FrontendSpec, Registry, prints_aside


@attrs.define(kw_only=True)
class ImportRequest:
    """What a frontend is told besides the path.

    Attributes:
        input_shapes: shapes by input name, for inputs whose file leaves dimensions open.
        diagnostics: where it says what it changed or guessed.
        scale_type: set by a frontend whose format prescribes the ``quantization_scale_type`` of a quantized
            network.
    """

    input_shapes: dict[str, tuple[int, ...]] = attrs.field(factory=dict[str, tuple[int, ...]])
    diagnostics: Diagnostics = attrs.field(factory=Diagnostics)
    scale_type: int | None = None


@attrs.frozen
class Frontend(abc.ABC):
    """Reads one model format."""

    @abc.abstractmethod
    def load(self, path: Path, request: ImportRequest) -> Graph:
        """Read a model into a valid graph whose shapes are inferred and whose nodes have their locations.

        Raises:
            ModelError: when the file is not what it claims to be.
            UnsupportedModelError: naming the node that cannot be taken.
        """


def load_model(
    path: Path, registry: Registry, request: ImportRequest, *, frontend: str | None = None
) -> Graph:
    """Read a model with the frontend that claims its suffix, or with the one that is named.

    Raises:
        ModelError: when the file is missing or damaged, or the frontend fails on it.
        AmbiguousFrontendError: when no or several frontends claim the suffix.
        UnknownNameError: when the named frontend does not exist.
    """
    if not path.is_file():
        raise ModelError("there is no such file", place=str(path), hint="give the path of a model file")
    name = frontend or _claim(path, registry)
    kind: type[Frontend] = registry.load(FrontendSpec, name)
    try:
        with prints_aside():
            return kind().load(path, request)
    except LowtideError:
        raise
    # A frontend may be anybody's, and bad input should not look like a bug of ours.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"the frontend {name} failed: {type(error).__name__}: {error}", place=str(path)
        ) from error


def _claim(path: Path, registry: Registry) -> str:
    specs = registry.all(FrontendSpec)
    claims = [spec for spec in specs if path.suffix.lower() in spec.suffixes]
    if len(claims) == 1:
        return claims[0].name
    if claims:
        owners = ", ".join(f"{spec.name} of {registry.provider(spec)}" for spec in claims)
        raise AmbiguousFrontendError(
            f"several frontends read {path.suffix} files: {owners}",
            place=str(path),
            hint="choose with --frontend",
        )
    known = ", ".join(sorted({suffix for spec in specs for suffix in spec.suffixes})) or "none"
    raise AmbiguousFrontendError(
        f"no frontend reads {path.suffix or 'files without a suffix'}",
        place=str(path),
        hint=f"known suffixes: {known}; choose with --frontend",
    )
