"""Threats on their way to other systems: which go where, and what became of them."""
