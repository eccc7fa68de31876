"""Requests: their forms, checked, answered and logged."""
