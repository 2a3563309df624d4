"""Tiny random checkpoints under the released tensor names and config fields."""
