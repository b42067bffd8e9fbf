"""Findings and matches into threats with evidence, phases and revisions."""
