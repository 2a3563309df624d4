"""``vllm-diffusion watch`` and ``chat``: a text that sharpens in a terminal. [none]

- ``canvas``: what a text looks like after a step, and a line of counters
- ``source``: steps of a running server, or of an ``LLM()`` in this process
- ``commands``: the two commands
"""
