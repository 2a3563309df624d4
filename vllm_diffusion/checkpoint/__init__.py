"""A checkpoint is checked by its headers, before weights are read. [every process]

- ``check``: its mask token and its tensors
- ``headers``, ``tensors``: what is there, and what must be there
- ``llada2``: which of two releases it is
"""
