"""The console: threats, floor plan, what people do with them; pages that work without script."""
