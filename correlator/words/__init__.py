"""Threats in the words of people who are not analysts, in three languages, and what to do about them."""
