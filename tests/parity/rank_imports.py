"""What a rank imports, for the server that ranks are forked from: once instead of once a rank."""

import gc

import vllm.v1.worker.cpu_worker
import vllm.v1.worker.gpu.model_runner  # noqa: F401

import vllm_diffusion.engine.model_state  # noqa: F401

# A rank that collects garbage would copy every page that it was forked with.
gc.collect()
gc.freeze()
