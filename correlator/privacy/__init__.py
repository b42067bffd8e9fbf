"""People as tokens: keys, what is tokenised by them, the vault that leads back, and evidence under lock."""
