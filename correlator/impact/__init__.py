"""What a threat will hit, how likely and when, and what to do about it."""
