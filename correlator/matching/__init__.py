"""Events in, matches out: order, edges, windows, sequences, absences."""

from correlator.matching.engine import Engine
from correlator.matching.records import EngineSettings, Outputs, Record, Tells

__all__ = ["Engine", "EngineSettings", "Outputs", "Record", "Tells"]
