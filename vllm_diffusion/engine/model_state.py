"""The worker's side of a block-diffusion model: inputs and attention metadata.

Everything that is exact here rests on one rule of the scheduler: a query
starts at a block border, and all tokens in front of it have final K and V.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.config.compilation import CUDAGraphMode
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.attention.backend import AttentionCGSupport
from vllm.v1.core.sched.output import NewRequestData
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.worker.gpu.attn_utils import build_attn_metadata
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.model_states.interface import ModelState
from vllm.v1.worker.gpu.states import RequestState
from vllm.v1.worker.utils import AttentionGroup

from vllm_diffusion.attention.virtual import split
from vllm_diffusion.engine.requests import RequestParams
from vllm_diffusion.engine.sampler import DiffusionSampler
from vllm_diffusion.models.serving import plan_of


class BlockDiffusionState(ModelState):
    """Block-causal diffusion on paged KV, in the ``fused`` commit mode."""

    num_new_sampled_tokens_per_step: int = 0

    def __init__(
        self, vllm_config: VllmConfig, model: nn.Module, encoder_cache: Any, device: torch.device
    ) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)
        self.plan = plan_of(self.model_config)
        self.params = RequestParams(
            self.max_num_reqs, self.plan, vocab_size=self.model_config.get_vocab_size()
        )
        self.slot_of: dict[str, int] = {}

    def get_additional_cg_support(self) -> tuple[AttentionCGSupport, str | None]:
        """No FULL CUDA graphs: a query is one block or two, so its metadata changes shape
        from step to step and a captured graph would replay an old one. PIECEWISE is fine.
        """
        return AttentionCGSupport.NEVER, "block diffusion (fused commit)"

    def custom_sampler(self, sampler: Any) -> tuple[Any, Any] | None:
        """Replace the token-by-token sampler by the denoising step."""
        self.sampler = DiffusionSampler(
            self.plan, self.params, sampler.req_states, max_model_len=self.max_model_len
        )
        return self.sampler, None

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        self.params.add(req_index, new_req_data)
        self.slot_of[new_req_data.req_id] = req_index
        self.sampler.canvas.clear(req_index)

    def remove_request(self, req_id: str) -> None:
        slot = self.slot_of.pop(req_id, None)
        if slot is not None:
            self.params.remove(slot)

    def apply_staged_writes(self) -> None:
        self.params.copy_to_device()

    def prepare_inputs_embeds(self, *_: Any) -> None:
        return None

    def prepare_inputs(self, input_batch: InputBatch, req_states: RequestState) -> dict[str, Any]:
        """Put the tokens of just finished blocks into the runner's input ids.

        The runner fills in prompts and canvases. A fused query also starts with
        the block that the last step finished, whose tokens are only in the
        request's token history.
        """
        num_reqs = input_batch.num_reqs
        query_len_np = np.diff(input_batch.query_start_loc_np[: num_reqs + 1])
        start_np = input_batch.num_computed_tokens_np
        num_known_np = query_len_np - np.diff(input_batch.cu_num_logits_np[: num_reqs + 1])
        past_prefill_np = start_np + num_known_np > input_batch.prefill_len_np
        if not (past_prefill_np & (num_known_np > 0)).any():
            return {}
        num_tokens = input_batch.num_tokens
        slot_np = np.repeat(input_batch.idx_mapping_np[:num_reqs], query_len_np)
        slot_N = async_tensor_h2d(slot_np.astype(np.int64), device=self.device)
        position_N = input_batch.positions[:num_tokens]
        is_known_N = position_N < req_states.total_len.gpu[slot_N]
        history_N = req_states.all_token_ids.gpu[
            slot_N, position_N.clamp(max=self.max_model_len - 1)
        ]
        input_ids_N = input_batch.input_ids[:num_tokens]
        input_ids_N.copy_(torch.where(is_known_N, history_N, input_ids_N))
        return {}

    def prepare_dummy_inputs(self, num_reqs: int, num_tokens: int) -> dict[str, Any]:
        return {}

    def prepare_attn(
        self,
        input_batch: InputBatch,
        cudagraph_mode: CUDAGraphMode,
        block_tables: tuple[Tensor, ...],
        slot_mappings: Tensor,
        attn_groups: list[list[AttentionGroup]],
        kv_cache_config: KVCacheConfig,
        for_capture: bool = False,
        ubatch_idx: int = 0,
    ) -> dict[str, Any]:
        """Attention metadata of the batch's virtual sequences, all non-causal."""
        num_reqs = input_batch.num_reqs
        virtual = split(
            input_batch.query_start_loc_np[: num_reqs + 1],
            input_batch.num_computed_tokens_np[:num_reqs],
            self.params.block_length.np[input_batch.idx_mapping_np[:num_reqs]],
        )
        if virtual.request_S is not None:
            request_S = async_tensor_h2d(virtual.request_S, device=self.device)
            block_tables = tuple(table[request_S] for table in block_tables)
        query_start_loc = torch.from_numpy(virtual.query_start_loc)
        seq_lens = torch.from_numpy(virtual.seq_lens)
        return build_attn_metadata(
            attn_groups=attn_groups,
            num_reqs=len(virtual.seq_lens),
            num_tokens=input_batch.num_tokens,
            query_start_loc_gpu=async_tensor_h2d(query_start_loc, device=self.device),
            query_start_loc_cpu=query_start_loc,
            max_query_len=virtual.max_query_len,
            seq_lens=async_tensor_h2d(seq_lens, device=self.device),
            max_seq_len=self.max_model_len if for_capture else virtual.max_seq_len,
            block_tables=block_tables,
            slot_mappings=slot_mappings,
            kv_cache_config=kv_cache_config,
            seq_lens_cpu_upper_bound=seq_lens,
            causal=False,
            for_cudagraph_capture=for_capture,
        )
