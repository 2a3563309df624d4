"""What servers and ranks import, for the process that they are forked from: once for all."""

import gc

import vllm.entrypoints.cli.main
import vllm.entrypoints.cli.serve
import vllm.entrypoints.openai.api_server
import vllm.v1.engine.async_llm
import vllm.v1.engine.core
import vllm.v1.executor.multiproc_executor
import vllm.v1.worker.cpu_worker
import vllm.v1.worker.gpu.model_runner  # noqa: F401

import vllm_diffusion.worker.model_state  # noqa: F401

# A process that collects garbage would copy every page that it was forked with.
gc.collect()
gc.freeze()
