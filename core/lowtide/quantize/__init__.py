"""Quantization: the arithmetic, and the solver that gives every tensor its parameters."""

from __future__ import annotations
