"""Figures of this machine: `python -m benchmarks`. What is measured, and how, is in docs/performance.md."""
