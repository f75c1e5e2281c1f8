"""Ends the program while it is imported."""

from __future__ import annotations

import sys

sys.exit("no license found")
