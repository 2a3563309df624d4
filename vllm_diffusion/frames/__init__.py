"""Frames: what one denoising step did to one request, for whoever watches. [every process]

- ``frame``: a frame, from the worker's arrays to what a client reads

The worker takes them (``worker/frames.py``), the scheduler numbers them (``scheduler/frames.py``),
and the API server gives them to whoever has asked (``server/watching.py``).
"""

from vllm_diffusion.frames.frame import KEY, NAMES, Frame, State, Taken

__all__ = ["KEY", "NAMES", "Frame", "State", "Taken"]
