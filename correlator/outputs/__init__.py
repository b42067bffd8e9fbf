"""Renderers of threats for other systems; they decide nothing. The account and JSON are in `correlator.run`."""
