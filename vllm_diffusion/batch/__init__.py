"""The runner's batch as the denoising step reads it. [worker]

- ``slots``: what each slot's request asked for, as arrays
- ``device``: such arrays on host and device
- ``slot_lists``: lists of different lengths, by slot
- ``laid``: what requests lay into their outputs, by slot
- ``places``: where in their drafts texts have got to, by slot
- ``view``: what each request does in the step, read off the runner's batch
- ``canvases``: the canvases of the batch
"""
