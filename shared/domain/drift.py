"""Drift: a reference profile with fixed bins, mergeable counts of new data in them, and their distance."""

from __future__ import annotations
