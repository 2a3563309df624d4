"""A backend's attention against plain torch, once at start-up, before anything is served.

``supports_non_causal`` is what a backend says of itself. What it computes is
seen here, on the model's own first layer: random queries, keys and values of
two short requests, a paged cache of its own, and the sequences and flags that
the engine builds. Suffixes: T tokens, H heads, K
key heads, D head size, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vllm.config import VllmConfig
from vllm.forward_context import create_forward_context, override_forward_context
from vllm.logger import init_logger
from vllm.v1.kv_cache_interface import (
    AttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    is_quantized_kv_cache,
)
from vllm.v1.worker.gpu.attn_utils import build_attn_metadata
from vllm.v1.worker.utils import AttentionGroup

from vllm_diffusion.mask_groups.base import MaskGroup
from vllm_diffusion.mask_groups.dense import block_causal
from vllm_diffusion.mask_groups.sequences import VirtualSequences, split, whole

logger = init_logger(f"vllm.{__name__}")

PROVED = frozenset({"CPU_ATTN"})
"""Backends whose tokens ``tests/parity`` compares with plain torch, in every family."""
TOLERANCE = {torch.float32: 5e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference that rounding explains, of outputs around 1 (TensorFloat-32 included).

A wrong mask is off by about 1 somewhere: the first rows see few keys.
"""
QUANTISED = {"fp8": 0.5, "fp8_e4m3": 0.5, "fp8_e5m2": 0.9}
"""The same for caches with 3 bits of a fraction, or 2: twice what was seen. Others as the first."""
REMEDY = "choose another one with --attention-backend"
BLOCK = 8
BORDERS = np.array([[0, 0], [BLOCK, 2 * BLOCK], [5 * BLOCK - 3, 4 * BLOCK]], dtype=np.int32)
"""(steps + 1, requests): where the two requests' queries end; a query's start is its context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of batch that the engine sends."""

    name: str
    sequences: Callable[[NDArray[np.int32], NDArray[np.int32]], VirtualSequences]
    """Of the queries' borders and the number of tokens in the cache before each query."""
    causal: bool | tuple[int, ...]
    """For all sequences, or for each."""
    visible: Callable[[int, int], Tensor]
    """bool (T, T): what the request of that index sees when T of its tokens are there."""


BOTH_WAYS = Case(
    name="both ways in blocks",
    sequences=lambda borders, computed: split(borders, computed, np.full(len(computed), BLOCK)),
    causal=False,
    visible=lambda index, length: block_causal(length, BLOCK),
)
MIXED = Case(
    name="causally for one request and both ways for another",
    sequences=lambda borders, computed: whole(borders, computed + np.diff(borders)),
    causal=(1, 0),
    visible=lambda index, length: block_causal(length, 1 if index == 0 else length),
)


def reference(
    q_NHD: Tensor, k_TKD: Tensor, v_TKD: Tensor, visible_NT: Tensor, scale: float
) -> Tensor:
    """Softmax attention in float32, (N, H, D)."""
    num_sharing = q_NHD.shape[1] // k_TKD.shape[1]
    k_THD, v_THD = (x.float().repeat_interleave(num_sharing, dim=1) for x in (k_TKD, v_TKD))
    scores_HNT = torch.einsum("nhd,thd->hnt", q_NHD.float(), k_THD) * scale
    probs_HNT = scores_HNT.masked_fill(~visible_NT, -torch.inf).softmax(-1)
    return torch.einsum("hnt,thd->nhd", probs_HNT, v_THD)


def scratch_cache(bound: Tensor, num_pages: int) -> Tensor:
    """Zeros in the shape of a layer's cache and in its order in memory, but few pages."""
    order = sorted(range(bound.dim()), key=bound.stride, reverse=True)
    shape = (num_pages, *bound.shape[1:])
    made = bound.new_zeros([shape[dim] for dim in order])
    return made.permute([order.index(dim) for dim in range(bound.dim())])


class LayerCheck:
    """One built attention layer, which gets a small cache of its own while it is checked."""

    def __init__(self, vllm_config: VllmConfig, name: str, spec: AttentionSpec) -> None:
        self.vllm_config = vllm_config
        self.name = name
        self.layer: Any = vllm_config.compilation_config.static_forward_context[name]
        self.device = self.layer.kv_cache.device
        # A quantised cache holds numbers around these; they are 1 where it is not calibrated.
        self.scales: tuple[float, ...] = (1.0, 1.0, 1.0)
        if is_quantized_kv_cache(self.layer.kv_cache_dtype):
            self.scales = tuple(getattr(self.layer, f"_{name}_scale_float") for name in "qkv")
        # (pages, heads, tokens of a page, K and V), in the kernel's pages.
        self.page = self.layer.kv_cache.shape[2]
        spec = spec.copy_with_new_block_size(self.page)
        self.group = AttentionGroup(self.layer.get_attn_backend(), [name], spec, 0)
        self.group.create_metadata_builders(vllm_config, self.device, self.page)
        self.kv_config = KVCacheConfig(
            num_blocks=0, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec([name], spec)]
        )
        num_pages = -(-int(BORDERS.max()) // self.page)
        # Neither in their order nor from the first one on, which vLLM keeps for padding.
        pages = np.arange(2 * num_pages, 0, -1, dtype=np.int32)
        self.table = np.ascontiguousarray(pages.reshape(num_pages, 2).T)

    def difference(self, case: Case) -> float:
        """The largest one from ``reference``, over the steps of ``case``."""
        layer = self.layer
        length = int(BORDERS.max())
        generator = torch.Generator().manual_seed(0)
        heads = (layer.num_heads, layer.num_kv_heads, layer.num_kv_heads)
        qkv = [
            torch.randn(2, length, num_heads, layer.head_size, generator=generator)
            .mul(scale)
            .to(self.vllm_config.model_config.dtype)
            for num_heads, scale in zip(heads, self.scales, strict=True)
        ]
        bound = layer.kv_cache
        layer.kv_cache = scratch_cache(bound, 1 + self.table.size)
        try:
            return max(self._step(case, *borders, qkv) for borders in pairwise(BORDERS))
        finally:
            layer.kv_cache = bound

    def _step(
        self, case: Case, start_R: NDArray[np.int32], end_R: NDArray[np.int32], qkv: list[Tensor]
    ) -> float:
        """Both requests' tokens from start to end, behind those of the step before."""
        spans = list(enumerate(zip(start_R.tolist(), end_R.tolist(), strict=True)))
        inputs = [
            torch.cat([x[index, start:end] for index, (start, end) in spans]).flatten(1)
            for x in qkv
        ]
        metadata, slots = self._metadata(case, start_R, end_R)
        context = create_forward_context(
            {self.name: metadata}, self.vllm_config, slot_mapping={self.name: slots}
        )
        with override_forward_context(context):
            output = self.layer(*(x.to(self.device) for x in inputs))
        expected = [
            reference(
                qkv[0][index, start:end],
                qkv[1][index, :end],
                qkv[2][index, :end],
                case.visible(index, end)[start:end],
                self.layer.impl.scale,
            )
            for index, (start, end) in spans
        ]
        difference = (output.float().cpu() - torch.cat(expected).flatten(1)) / self.scales[2]
        # Numbers that are none are as wrong as can be.
        return float(difference.abs().nan_to_num(torch.inf).max())

    def _metadata(
        self, case: Case, start_R: NDArray[np.int32], end_R: NDArray[np.int32]
    ) -> tuple[Any, Tensor]:
        """As ``worker.model_state`` makes it, and the slots that the step writes."""
        borders = np.concatenate(([0], (end_R - start_R).cumsum())).astype(np.int32)
        virtual = case.sequences(borders, start_R)
        table = self.table if virtual.request_S is None else self.table[virtual.request_S]
        slots = [
            self.table[index, position // self.page] * self.page + position % self.page
            for index in range(2)
            for position in range(start_R[index], end_R[index])
        ]
        causal: bool | Tensor = (
            case.causal
            if isinstance(case.causal, bool)
            else torch.tensor(case.causal, dtype=torch.int32, device=self.device)
        )
        query_start_loc = torch.from_numpy(virtual.query_start_loc)
        seq_lens = torch.from_numpy(virtual.seq_lens)
        slot_mapping = torch.tensor(np.array(slots), dtype=torch.int64, device=self.device)
        metadata = build_attn_metadata(
            attn_groups=[[self.group]],
            num_reqs=len(virtual.seq_lens),
            num_tokens=len(slots),
            query_start_loc_gpu=query_start_loc.to(self.device),
            query_start_loc_cpu=query_start_loc,
            max_query_len=virtual.max_query_len,
            seq_lens=seq_lens.to(self.device),
            max_seq_len=virtual.max_seq_len,
            block_tables=[torch.from_numpy(table).to(self.device)],
            slot_mappings=slot_mapping[None],
            kv_cache_config=self.kv_config,
            seq_lens_cpu_upper_bound=seq_lens,
            causal=causal,
        )
        return metadata[self.name], slot_mapping


def check_layer(
    vllm_config: VllmConfig, name: str, spec: AttentionSpec, mask_group: type[MaskGroup]
) -> None:
    """Compare one layer's attention with ``reference``.

    Raises:
        ValueError: they differ, or the backend says that it cannot do this.
    """
    layer: Any = vllm_config.compilation_config.static_forward_context[name]
    backend = layer.get_attn_backend().get_name()
    cases = (BOTH_WAYS, MIXED) if mask_group.has_causal_context else (BOTH_WAYS,)
    tolerance = TOLERANCE[vllm_config.model_config.dtype]
    if is_quantized_kv_cache(layer.kv_cache_dtype):
        tolerance = QUANTISED.get(layer.kv_cache_dtype, QUANTISED["fp8"])
    for case in cases:
        try:
            difference = LayerCheck(vllm_config, name, spec).difference(case)
        except (NotImplementedError, ValueError) as error:
            raise ValueError(
                f"the attention backend {backend} cannot attend {case.name}, which this model "
                f"needs ({error}); {REMEDY}"
            ) from error
        except Exception as error:
            # It may be this check that does not fit the backend; wrong text it is not.
            logger.warning(
                "The attention backend %s could not be checked against a reference: %r. If texts "
                "make no sense, %s.",
                backend,
                error,
                REMEDY,
            )
            return
        if difference > tolerance:
            raise ValueError(
                f"the attention backend {backend} does not attend {case.name}, which this model "
                f"needs: its output is off by {difference:.3g}, and rounding explains "
                f"{tolerance:g}; {REMEDY}"
            )
    logger.info("The attention backend %s attends as a plain reference does.", backend)


@torch.inference_mode()
def check_backends(
    vllm_config: VllmConfig, kv_cache_config: KVCacheConfig, mask_group: type[MaskGroup]
) -> None:
    """Check one layer of each backend and type of cache that is not proved; caches must be bound.

    Raises:
        ValueError: a backend attends otherwise than the family needs.
    """
    seen: set[tuple[str, str]] = set()
    for group in kv_cache_config.kv_cache_groups:
        for name in group.layer_names:
            layer: Any = vllm_config.compilation_config.static_forward_context[name]
            backend, cache_type = layer.get_attn_backend().get_name(), layer.kv_cache_dtype
            is_proved = backend in PROVED and not is_quantized_kv_cache(cache_type)
            if is_proved or (backend, cache_type) in seen:
                continue
            seen.add((backend, cache_type))
            spec = group.kv_cache_spec
            if not isinstance(spec, AttentionSpec):
                logger.warning(
                    "The attention backend %s is not checked: its cache is not plain.", backend
                )
                continue
            check_layer(vllm_config, name, spec, mask_group)
