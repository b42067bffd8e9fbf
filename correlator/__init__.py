"""Deterministic cyber-physical event correlation for hospitals.

A site's signals form an ordered log; the engine folds that log into rule matches and links them into
composite threats. The stages are the sub-packages, in the order of ARCHITECTURE.md; each one's
`__init__` lists its public names.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
