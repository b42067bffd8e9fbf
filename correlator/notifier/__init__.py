"""Alerts for people: who is told, when, through what, in which words, and what became of it."""
