"""Structured output: grammars that a canvas is held to while it is filled in parallel."""
