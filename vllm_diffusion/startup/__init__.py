"""What is set and checked before weights are read. [every process]

- ``checkpoint_hook``: the model's config, as soon as vLLM has read it
- ``serving``: vLLM's other settings
"""
