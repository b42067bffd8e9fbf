"""Generators for researchers and tests: ordinary hospital traffic around a scenario's own lines."""
