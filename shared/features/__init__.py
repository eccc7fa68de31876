"""Landed rows and features.sql, the same on every engine."""
