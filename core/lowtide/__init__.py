"""Lowtide: an open, plugin-based post-training-quantization compiler for edge accelerators."""

from __future__ import annotations
