"""Benchmarks: they measure and print; tests never time."""
