"""What people did and decided: the journal `console.actions` and what follows from it."""
