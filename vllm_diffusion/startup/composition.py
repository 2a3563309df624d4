"""Which of vLLM's options go together with diffusion models: the others are refused by name.

An option is here where vLLM would take it and serve a wrong text, end at a
request, or do nothing. ``docs/parallelism.md`` has the whole table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm import envs

from vllm_diffusion.startup.connectors import check_connector

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from vllm_diffusion.request.plan import DecodePlan

CPU_CACHE_TYPES = ("auto", "fp8", "fp8_e4m3", "fp8_e5m2")
"""What vLLM's CPU attention says it reads; its platform asks nobody."""
NO_CPU_KERNEL = ("fp8", "mxfp", "nvfp")
"""Starts of the names of weights that vLLM's CPU build cannot make while it loads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option that is refused where it is asked for."""

    flag: str
    asked: Callable[[VllmConfig], Any]
    """Its value where it is asked for, else something false."""
    reason: str
    remedy: str = "leave it out"


def _many(ranks: int) -> int:
    """Ranks, if there is more than one."""
    return ranks if ranks > 1 else 0


def _other_cache_type(config: VllmConfig) -> str:
    name: str = config.cache_config.cache_dtype
    own = str(config.model_config.dtype).removeprefix("torch.")
    return "" if name in (*CPU_CACHE_TYPES, own) else name


def _made_while_loading(config: VllmConfig) -> str:
    """Weights that the checkpoint has in another type."""
    name: str = config.model_config.quantization or ""
    is_checkpoints = getattr(config.model_config.hf_config, "quantization_config", None)
    return name if name.startswith(NO_CPU_KERNEL) and not is_checkpoints else ""


def _too_wide_for_int8(config: VllmConfig) -> str:
    """The dtype, where vLLM's kernel for int8 activations on CPUs does not take it."""
    quantised = getattr(config.model_config.hf_config, "quantization_config", None) or {}
    groups = quantised.get("config_groups") or {}
    activations = (group.get("input_activations") or {} for group in groups.values())
    is_int8 = any(a.get("type") == "int" and a.get("num_bits") == 8 for a in activations)
    is_float32 = config.model_config.dtype == torch.float32
    # Without AMX another kernel computes, which takes every type.
    has_amx = torch.cpu.get_capabilities().get("amx_tile")
    return "float32" if is_int8 and is_float32 and has_amx else ""


EVERYWHERE = (
    Option(
        flag="VLLM_USE_V2_MODEL_RUNNER=0",
        asked=lambda c: envs.VLLM_USE_V2_MODEL_RUNNER is False,
        reason="the first model runner of vLLM knows no canvases",
    ),
    Option(
        flag="--runner",
        asked=lambda c: c.model_config.runner_type != "generate" and c.model_config.runner_type,
        reason="a diffusion model's hidden states depend on its masks, and nobody has trained "
        "them as embeddings",
        remedy="serve an embedding model",
    ),
    Option(
        flag="--decode-context-parallel-size",
        asked=lambda c: _many(c.parallel_config.decode_context_parallel_size),
        reason="a rank would hold a part of the context, and masks are made for all of it",
        remedy="use tensor parallelism",
    ),
    Option(
        flag="--prefill-context-parallel-size",
        asked=lambda c: _many(c.parallel_config.prefill_context_parallel_size),
        reason="a rank would compute a part of a query, and a block sees all of itself",
        remedy="use tensor parallelism",
    ),
    Option(
        flag="--enable-dbo or --ubatch-size",
        asked=lambda c: c.parallel_config.use_ubatching,
        reason="half of a batch would be attended with the sequences of the whole one",
    ),
    Option(
        flag="--enable-return-routed-experts",
        asked=lambda c: c.aux_output_config.enable_return_routed_experts,
        reason="a position takes other experts in each denoising step",
    ),
    Option(
        flag="--enable-trace-replay",
        asked=lambda c: c.model_config.enable_trace_replay,
        reason="a trace says one token a step, and a step accepts several",
    ),
    Option(
        flag="--enable-sleep-mode",
        asked=lambda c: c.model_config.enable_sleep_mode,
        reason="at its second level the canvases and tables that a worker holds beside the weights "
        "would come back as garbage",
        remedy="leave it out; POST /sleep?level=0 still pauses a server",
    ),
    Option(
        flag="--enable-prompt-embeds",
        asked=lambda c: c.model_config.enable_prompt_embeds,
        reason="a canvas is made of tokens, and the prompt beside it must be, too",
    ),
    Option(
        flag="--kv-sharing-fast-prefill",
        asked=lambda c: c.cache_config.kv_sharing_fast_prefill,
        reason="it computes the last token of a prompt alone, and a canvas needs all of its rows",
    ),
)
ON_CPUS = (
    Option(
        flag="--enable-expert-parallel",
        asked=lambda c: c.parallel_config.enable_expert_parallel,
        reason="vLLM's kernel for experts on CPUs ends the process when a rank has a part of them",
        remedy="use tensor parallelism, which shards every expert",
    ),
    Option(
        flag="--data-parallel-size",
        asked=lambda c: (
            c.model_config.get_num_experts() > 0 and _many(c.parallel_config.data_parallel_size)
        ),
        reason="vLLM's engines share the experts, and its communicator on CPUs cannot gather the "
        "rows of all engines (all_gatherv), so that the first request would end them",
        remedy="use tensor parallelism, or start servers that know nothing of each other",
    ),
    Option(
        flag="--enable-lora",
        asked=lambda c: c.lora_config is not None and c.model_config.get_num_experts() > 0,
        reason="vLLM adapts experts with Triton's kernels, which its CPU build has not",
        remedy="merge the adapter into the weights",
    ),
    Option(
        flag="--kv-cache-dtype",
        asked=_other_cache_type,
        reason="vLLM's attention on CPUs does not read this type, and its texts would be garbage",
        remedy="take auto, fp8 (fp8_e4m3) or fp8_e5m2",
    ),
    Option(
        flag="--quantization",
        asked=_made_while_loading,
        reason="vLLM's CPU build has no kernel that makes such weights while it loads a checkpoint",
        remedy="take a checkpoint that is quantised already, such as compressed-tensors int8 W8A8",
    ),
    Option(
        flag="--dtype",
        asked=_too_wide_for_int8,
        reason="this checkpoint's matrices and what goes into them are int8, and on CPUs with AMX "
        "vLLM's kernel for them takes bfloat16 or float16",
        remedy="take bfloat16",
    ),
)


def check_composition(vllm_config: VllmConfig, plan: DecodePlan) -> None:
    """Refuse what cannot go together with this model.

    Raises:
        ValueError: an option, with the reason and the remedy.
    """
    is_on_cpu = vllm_config.device_config.device_type == "cpu"
    for option in (*EVERYWHERE, *(ON_CPUS if is_on_cpu else ())):
        if value := option.asked(vllm_config):
            said = "" if value is True else f" {value}"
            raise ValueError(
                f"{option.flag}{said} is refused for diffusion models: {option.reason}; "
                f"{option.remedy}"
            )
    check_connector(vllm_config, plan)
