"""HTTP routes that vLLM's server has not: ``vllm-diffusion serve`` switches them on. [API server]

- ``plugin``: vLLM's endpoint plugin, which has the list of route modules
- ``models``: what is served, also one model by its name
- ``access``: whose server it is, and who may ask
- ``fim``, ``infill``: the text between two passages, in Mercury's and Mistral's and in llama.cpp's
  shape
- ``edits``: ``/v1/edit/completions`` and ``/v1/apply/completions``, a text that is changed
- ``decisions``: ``/v1/decisions`` and ``/v1/systemone``, questions with a closed set of answers
- ``page``: the page at ``/``, which shows how texts come about
- ``command``: the command ``vllm-diffusion serve``

A route module has a router. It may import from the server's package; nothing imports from here.
Requests reach the engine through handlers of vLLM, so fields are honoured or refused as there.
"""
