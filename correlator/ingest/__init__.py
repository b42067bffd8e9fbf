"""From raw messages to records of the engine's log."""
