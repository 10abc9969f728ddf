"""Measurements for the README. Nothing here is needed to use the package."""
