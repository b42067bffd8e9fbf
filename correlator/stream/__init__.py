"""The stream carrier: Kafka holds log, state and outputs; Faust feeds the engine (docs/streaming.md)."""
