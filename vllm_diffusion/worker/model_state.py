"""The worker's side of a block-diffusion model: inputs and attention metadata.

Everything that is exact here rests on one rule of the scheduler: all tokens in
front of a query have final K and V.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
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
from vllm.v1.worker.gpu.block_table import BlockTables
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.model_states.interface import ModelState
from vllm.v1.worker.gpu.states import RequestState
from vllm.v1.worker.utils import AttentionGroup

from vllm_diffusion import compat
from vllm_diffusion.batch.slots import RequestParams
from vllm_diffusion.batch.view import view_batch
from vllm_diffusion.denoise.canvas import Canvas
from vllm_diffusion.frames import Taken
from vllm_diffusion.isolation.failures import Failure, Failures
from vllm_diffusion.isolation.lifetime import end_with_parent
from vllm_diffusion.mask_groups.inputs import Inputs
from vllm_diffusion.mask_groups.view import BatchView
from vllm_diffusion.request.parsed import ParsedRequest, received
from vllm_diffusion.startup.serving import plan_of
from vllm_diffusion.worker.adapters import map_rows
from vllm_diffusion.worker.attention_check import check_backends
from vllm_diffusion.worker.grammars import Grammars
from vllm_diffusion.worker.guidance import shifted_table
from vllm_diffusion.worker.rehearsal import rehearse
from vllm_diffusion.worker.sampler import DiffusionSampler
from vllm_diffusion.worker.stages import Stages


class BlockDiffusionState(ModelState):
    """Masked diffusion on paged KV, in the ``fused`` commit mode."""

    num_new_sampled_tokens_per_step: int = 0

    def __init__(
        self, vllm_config: VllmConfig, model: nn.Module, encoder_cache: Any, device: torch.device
    ) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)
        for patch in compat.WORKER_PATCHES:
            patch()
        end_with_parent()
        self.plan = plan_of(self.model_config)
        self.record = self.plan.record
        self.mask_group = self.record.mask_group(
            self.record,
            page=vllm_config.cache_config.block_size,
            max_model_len=self.max_model_len,
        )
        self.params = RequestParams(
            self.max_num_reqs, self.plan, vocab_size=self.model_config.get_vocab_size()
        )
        self.failures = Failures()
        self.grammars = Grammars(vllm_config, self.plan, self.max_model_len, self.failures)
        self.slot_of: dict[str, int] = {}
        self.sampler: DiffusionSampler | None = None
        """Of the last pipeline rank."""
        self.canvas: Canvas
        self.is_drafted_S = np.zeros(self.max_num_reqs, dtype=np.bool_)
        # The ranks of a pipeline take a step's two calls one after the other, each at its own
        # time. Read by compat.worker.
        num_ranks = vllm_config.parallel_config.pipeline_parallel_size
        self.samples_in_the_same_call = num_ranks == 1
        self.stages: Stages | None = None
        self._to_device = partial(async_tensor_h2d, device=device)
        self._viewed: tuple[InputBatch, BatchView] | None = None
        self.is_attention_checked = False

    def get_additional_cg_support(self) -> tuple[AttentionCGSupport, str | None]:
        """No FULL CUDA graphs: a query is one block or two, so its metadata changes shape
        from step to step and a captured graph would replay an old one. PIECEWISE is fine.
        """
        return AttentionCGSupport.NEVER, "block diffusion (fused commit)"

    def custom_sampler(self, sampler: Any) -> tuple[Any, Any] | None:
        """Replace the token-by-token sampler by the denoising step."""
        self.sampler = DiffusionSampler(
            self.plan,
            self.params,
            sampler.req_states,
            max_model_len=self.max_model_len,
            grammars=self.grammars,
            failures=self.failures,
            logprobs_mode=self.model_config.logprobs_mode,
        )
        self.canvas, self.is_drafted_S = self.sampler.canvas, self.sampler.is_drafted_S
        # vLLM's CPU worker measures no peak, and C++ copies no rows there.
        if self.device.type != "cpu":
            num_rows = min(
                self.max_num_reqs * self.plan.canvas_length,
                self.vllm_config.scheduler_config.max_num_batched_tokens,
            )
            self.sampler.rehearsal = partial(rehearse, num_rows=num_rows, mask_id=self.plan.mask_id)
        return self.sampler, None

    def begin_step(self, runner: Any, scheduled: Mapping[str, Any]) -> None:
        """Called before the runner looks at a step of the ``scheduled`` requests.

        Alone it is nothing; a rank of a pipeline takes over what the last one has told it.
        """
        if runner.pp_handler is None:
            return
        if self.stages is None:
            if self.sampler is None:
                self.canvas = Canvas.over(runner.req_states.draft_tokens, self.plan.mask_id)
            num_ranks = self.vllm_config.parallel_config.pipeline_parallel_size
            self.stages = Stages(runner.pp_handler, num_ranks, self.canvas, self._note_drafts)
            runner.pp_handler = self.stages
        self.stages.bring_up_to_date(runner, scheduled)

    def _note_drafts(self, input_batch: InputBatch) -> None:
        """Which canvases hold drafts after this step; the last rank's sampler notes it itself."""
        view = self._view(input_batch)
        if view.is_draft_R is not None:
            self.is_drafted_S[view.slot_R] = view.is_draft_R

    def initialize_kv_cache(
        self, kv_cache_config: KVCacheConfig, block_tables: BlockTables
    ) -> None:
        """Called once the layers have their caches, before anything is computed with them.

        More than once where vLLM measures CUDA graphs first; the first time tells all.
        """
        if not self.is_attention_checked:
            check_backends(self.vllm_config, kv_cache_config, self.record.mask_group)
            self.is_attention_checked = True

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        self.failures.forget(req_index)
        self.slot_of[new_req_data.req_id] = req_index
        parsed = self.failures.run(
            req_index,
            new_req_data.req_id,
            lambda: received(new_req_data.sampling_params, self.plan),
            Failure.PARAMETERS,
        ) or ParsedRequest(decode=self.plan.defaults)  # as the scheduler has it then
        self.params.add(req_index, new_req_data, parsed)
        self.canvas.clear(req_index)
        self._lay(req_index, new_req_data)
        self.is_drafted_S[req_index] = False
        if self.sampler is not None:
            self.sampler.frames.watch(req_index, bool(parsed.watcher))
        self.failures.run(
            req_index,
            new_req_data.req_id,
            lambda: self.grammars.add(req_index, new_req_data, parsed, self.canvas),
        )

    def _lay(self, slot: int, request: NewRequestData) -> None:
        """Lay the first canvas; a request that lost its K and V has emitted some already."""
        if not self.params.laid.is_laid_S[slot]:
            return
        tokens = request.prefill_token_ids or request.prompt_token_ids or ()
        known, block = len(tokens), int(self.params.block_length.np[slot])
        at, blocks = int(self.params.prompt_len[slot]), []
        while at < known:
            width = self.mask_group.canvas_width(at, block)
            blocks.append(tokens[at : min(at + width, known)])
            at += width
        self.params.laid.start(
            slot,
            self.canvas,
            blocks,
            self.mask_group.canvas_width(known, block),
            has_seed=self.record.has_seed and bool(self.mask_group.starts_block(known, block)),
        )

    def remove_request(self, req_id: str) -> None:
        slot = self.slot_of.pop(req_id, None)
        if slot is not None:
            self.params.remove(slot)
            self.grammars.remove(slot)
            self.failures.forget(slot)
            if self.sampler is not None:
                self.sampler.logits_ops.remove(slot)
                self.sampler.frames.watch(slot, False)

    def take_frames(self) -> Taken | None:
        """What the step's watched requests did; called after each step."""
        return None if self.sampler is None else self.sampler.frames.fetch()

    def apply_staged_writes(self) -> None:
        self.params.copy_to_device()

    def prepare_inputs_embeds(self, *_: Any) -> None:
        return None

    def prepare_inputs(self, input_batch: InputBatch, req_states: RequestState) -> dict[str, Any]:
        """Put in the tokens that the runner does not know of, and say whose logits count."""
        input_batch.logits_indices = self.mask_group.prepare(
            Inputs(
                input_batch,
                req_states,
                self._view(input_batch),
                self.params,
                self.canvas,
                self._to_device,
            )
        )
        map_rows(self.model, input_batch.logits_indices)
        return {}

    def _view(self, input_batch: InputBatch) -> BatchView:
        """Made once a forward: the runner asks for attention first, then for the inputs."""
        if self._viewed is None or self._viewed[0] is not input_batch:
            view = view_batch(input_batch, self.params, self.record, self.is_drafted_S)
            self._viewed = (input_batch, view)
        return self._viewed[1]

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
        """Attention metadata of the batch's (virtual) sequences."""
        attended = self.mask_group.attended(self._view(input_batch), self.params)
        virtual, causal = attended.sequences, attended.is_causal
        if not isinstance(causal, bool):
            # vLLM's CPU attention wants int32 and no bool.
            causal = self._to_device(causal.astype(np.int32))
        if virtual.request_S is not None:
            request_S = self._to_device(virtual.request_S)
            block_tables = tuple(table[request_S] for table in block_tables)
        if attended.page_shift_S is not None:
            shift = self._to_device(attended.page_shift_S)
            block_tables = tuple(shifted_table(table, shift) for table in block_tables)
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
            causal=causal,
            for_cudagraph_capture=for_capture,
        )
