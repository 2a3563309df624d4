"""Real clients against a served model: a script each, run in an environment of its own.

``python -m tests.clients`` (``make clients``) makes the environments under ``build/clients`` and
runs all clients or those that are named. The scripts know only their client and ``checks``.

- ``registry``: the clients, with versions; ``environments``: where they live
- ``questions``: what they ask, with the answers; ``served``: the one server
- ``checks`` and ``checks.mjs``: what the scripts share
- ``with_openai``, ``with_openai_node``, ``with_ai_sdk``, ``with_inceptionai``, ``with_litellm``,
  ``with_langchain``, ``with_llama_index``, ``with_pydantic_ai``, ``with_instructor``,
  ``with_anthropic``, ``with_lm_eval``, ``with_vllm_bench``: a client each
"""
