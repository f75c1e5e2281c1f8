"""Machines differ and are shared: how long an example of hypothesis takes decides on no test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("lowtide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lowtide")
