"""Config shims: released ``config.json`` files, read without remote code.

``base`` (what all shims share), ``qwen``, ``llama``, ``llada2``: a class for each
``model_type`` that transformers does not know. Stable-DiffCoder needs none where its
file says ``llama``: that class stays transformers' own.
"""
