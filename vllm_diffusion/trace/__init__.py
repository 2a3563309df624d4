"""A text's coming about, recorded from an ``LLM()``, as a page or as a picture. [front end]

- ``record``: the frames of one text. Start here
- ``page``: a page that replays them, in one file (``replay.html``)
- ``picture``: the same as a moving picture
"""

from vllm_diffusion.trace.record import Trace, trace

__all__ = ["Trace", "trace"]
