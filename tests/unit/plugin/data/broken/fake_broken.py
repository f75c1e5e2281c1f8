"""Cannot be imported."""

from __future__ import annotations

raise ImportError("the driver is missing")
