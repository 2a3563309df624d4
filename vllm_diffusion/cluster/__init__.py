"""``vllm-diffusion ray-check``: what the nodes of a Ray cluster have, and what differs.

``facts`` is asked of each node, ``differences`` says what is wrong with the answers, ``check`` asks
and prints. No process of vLLM's loads any of them.
"""
