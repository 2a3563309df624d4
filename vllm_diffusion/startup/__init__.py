"""What is set and checked before weights are read. [every process]

- ``checkpoint_hook``: the model's config, as soon as vLLM has read it
- ``serving``: vLLM's other settings
- ``notices``: options of vLLM's that are served otherwise, a line of the log each
- ``composition``, ``connectors``: options of vLLM's that are refused; K and V from other engines
"""
