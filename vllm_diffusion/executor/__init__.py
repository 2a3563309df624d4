"""Workers on other machines: vLLM's Ray executor, made to run on hosts without an accelerator.

``ray_cpu`` is the executor, in the engine core; ``ray_worker`` is a worker in its Ray actor. Hosts
with accelerators never load either: there vLLM's own executor is used as it is.
"""
