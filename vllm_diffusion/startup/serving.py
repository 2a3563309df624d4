"""What serving a block-diffusion model asks of vLLM's configuration.

Runs once at start-up, before any weights are read. A limit that cannot hold is
mended with a log line where the user did not set it, and refused with the
remedy where the user did.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vllm import envs
from vllm.config.diffusion import DiffusionConfig
from vllm.logger import init_logger
from vllm.model_executor.models.config import VerifyAndUpdateConfig
from vllm.platforms import current_platform

from vllm_diffusion.decisions.calibration import temperatures_of
from vllm_diffusion.family.rows import FAMILIES
from vllm_diffusion.request.params import DecodeParams, InvalidFieldError
from vllm_diffusion.request.plan import DecodePlan, make_plan
from vllm_diffusion.startup import notices
from vllm_diffusion.startup.composition import check_composition
from vllm_diffusion.startup.connectors import has_one_block_length, with_one_block_length

if TYPE_CHECKING:
    from vllm.config import ModelConfig, ParallelConfig, VllmConfig

# A child of the logger that vLLM configures; ours alone would print nothing.
logger = init_logger(f"vllm.{__name__}")

SCHEDULER = "vllm_diffusion.scheduler.scheduler.BlockDiffusionScheduler"
OPTIONS_KEY = "diffusion"


def plan_of(model_config: ModelConfig) -> DecodePlan:
    """The decode plan that start-up resolved; it travels with the model's config."""
    plan: DecodePlan = model_config.diffusion_plan  # type: ignore[attr-defined]
    return plan


def _resolve_plan(vllm_config: VllmConfig) -> DecodePlan:
    model_config = vllm_config.model_config
    hf_config = model_config.hf_config
    additional = vllm_config.additional_config
    options = additional.get(OPTIONS_KEY, {}) if isinstance(additional, dict) else {}
    if not isinstance(options, dict):
        raise InvalidFieldError("additional_config.diffusion", options, "it must be an object")
    diffusion = vllm_config.diffusion_config
    return make_plan(
        FAMILIES[model_config.architecture],
        mask_id=getattr(hf_config, "mask_token_id", None),
        block_length=getattr(hf_config, "block_size", None),
        vocab_size=model_config.get_vocab_size(),
        generation=model_config.try_get_generation_config(),
        options=options,
        canvas_length=diffusion.canvas_length if diffusion else None,
        max_denoising_steps=diffusion.max_denoising_steps if diffusion else None,
        preset=getattr(hf_config, "diffusion_preset", None),
    )


def _align_kv_pages(vllm_config: VllmConfig, block_length: int) -> None:
    """Make a KV page hold whole blocks.

    The K and V of a token depend on its whole block. A page that ended inside
    a block would be shared under a hash that covers less than its content
    depends on.
    """
    cache = vllm_config.cache_config
    # What vLLM will choose, which the platform settles only after this hook.
    default = 128 if vllm_config.device_config.device_type == "cpu" else 16
    page = cache.block_size if cache.user_specified_block_size else default
    if page % block_length == 0:
        return
    if cache.user_specified_block_size:
        raise ValueError(
            f"--block-size {page} must be a multiple of the diffusion block length "
            f"{block_length}; take {math.lcm(page, block_length)} or leave the flag out"
        )
    cache.block_size = math.lcm(page, block_length)
    cache.user_specified_block_size = True
    notices.say(notices.PAGES, cache.block_size, block_length)


def _align_context(model_config: ModelConfig, block_length: int) -> None:
    """Let the last block end inside ``max_model_len``."""
    whole = model_config.max_model_len // block_length * block_length
    if whole == 0:
        raise ValueError(
            f"--max-model-len {model_config.max_model_len} is shorter than one diffusion "
            f"block of {block_length}"
        )
    if whole != model_config.max_model_len:
        notices.say(notices.CONTEXT, whole, model_config.max_model_len, block_length)
        model_config.max_model_len = whole


def _check_budget(vllm_config: VllmConfig, needed: int, why: str) -> None:
    """Refuse limits of a step's tokens under which some query could never be scheduled."""
    scheduler = vllm_config.scheduler_config
    for flag, limit in (
        ("--max-num-batched-tokens", scheduler.max_num_batched_tokens),
        ("--max-num-scheduled-tokens", scheduler.max_num_scheduled_tokens),
        # 0 is no limit; it cuts canvases as well as prompts.
        ("--long-prefill-token-threshold", scheduler.long_prefill_token_threshold or None),
    ):
        if limit is not None and limit < needed:
            raise ValueError(f"{flag} {limit} is too small: {why}, so at least {needed} is needed")


def _grow_budget(vllm_config: VllmConfig, needed: int, why: str) -> None:
    """Give a step room for ``needed`` tokens."""
    scheduler = vllm_config.scheduler_config
    if scheduler.max_num_batched_tokens < needed:
        notices.say(notices.BUDGET, needed, scheduler.max_num_batched_tokens, why)
        scheduler.max_num_batched_tokens = needed
        if scheduler.max_num_scheduled_tokens is not None:
            scheduler.max_num_scheduled_tokens = needed


def _fit(vllm_config: VllmConfig, plan: DecodePlan) -> None:
    """Meet what the mask group asks of vLLM's limits."""
    model_config = vllm_config.model_config
    limits = plan.record.mask_group.limits(plan.canvas_length, model_config.max_model_len)
    _align_kv_pages(vllm_config, limits.unit)
    _align_context(model_config, limits.unit)
    if limits.grows_budget:
        _grow_budget(vllm_config, limits.step_tokens, limits.why)
    _check_budget(vllm_config, limits.step_tokens, limits.why)
    if vllm_config.cache_config.enable_prefix_caching and not limits.shares_pages:
        notices.say(notices.PREFIX_CACHING)
        vllm_config.cache_config.enable_prefix_caching = False


def _refuse_unsupported(vllm_config: VllmConfig) -> None:
    parallel = vllm_config.parallel_config
    num_stages, executor = (
        parallel.pipeline_parallel_size,
        parallel.distributed_executor_backend,
    )
    if num_stages > 1 and executor == "external_launcher":
        raise ValueError(
            f"--pipeline-parallel-size {num_stages} does not go with "
            "--distributed-executor-backend external_launcher, whose ranks hand on no hidden "
            "states; choose mp or ray"
        )
    if parallel.enable_batch_sharded_sampling:
        # A rank would get the logits of its own requests alone, where vLLM's network can shard them
        # (Llama's), and the others' canvases would go without a step.
        raise ValueError(
            "--enable-batch-sharded-sampling does not apply to diffusion models, whose ranks all "
            "denoise the whole batch; leave it out"
        )
    if vllm_config.speculative_config is not None:
        raise ValueError("--speculative-config does not apply to diffusion models; leave it out")
    if vllm_config.model_config.logits_processors:
        raise ValueError(
            "--logits-processors expect one token at a time and cannot be applied to a canvas; "
            "leave them out"
        )
    scheduler_cls = vllm_config.scheduler_config.scheduler_cls
    if scheduler_cls not in (None, SCHEDULER):
        raise ValueError(
            f"--scheduler-cls {scheduler_cls} cannot schedule diffusion blocks; leave it out"
        )


def _fit_ray(parallel: ParallelConfig) -> None:
    """Run Ray's workers on hosts without an accelerator; elsewhere vLLM does it by itself."""
    if parallel.distributed_executor_backend != "ray" or not current_platform.is_cpu():
        return
    # vLLM 0.33 has one executor for Ray, and nothing to choose it with.
    if not getattr(envs, "VLLM_USE_RAY_V2_EXECUTOR_BACKEND", True):
        raise ValueError(
            "VLLM_USE_RAY_V2_EXECUTOR_BACKEND=0 asks for a Ray executor that counts accelerators, "
            "and this host has none; leave it out"
        )
    from vllm_diffusion.executor.ray_cpu import CpuRayExecutor

    parallel.distributed_executor_backend = CpuRayExecutor
    notices.say(notices.RAY)


def _say_what_is_read_otherwise(vllm_config: VllmConfig, plan: DecodePlan) -> None:
    backend = vllm_config.structured_outputs_config.backend
    if backend != "auto":
        notices.say(notices.BACKEND, backend)
    if has_one_block_length(vllm_config, plan):
        notices.say(notices.BLOCK_LENGTH, plan.canvas_length)


def _summary(defaults: DecodeParams) -> str:
    """How requests that say nothing are decoded, for the log."""
    parts = [
        f"blocks of {defaults.block_length}",
        f"policy {defaults.policy}",
        f"threshold {defaults.threshold:g}",
        f"at most {defaults.max_steps} steps a block",
    ]
    if defaults.sub_block_length < defaults.block_length:
        parts.append(f"sub-blocks of {defaults.sub_block_length}")
    if defaults.edits:
        parts.append(f"edits above {defaults.edit_threshold:g}")
    if defaults.guidance_scale:
        parts.append(f"guidance {defaults.guidance_scale:g}")
    if defaults.kv_cache != "exact":
        parts.append(f"approximate kv_cache {defaults.kv_cache}")
    return ", ".join(parts)


class BlockDiffusionServing(VerifyAndUpdateConfig):
    """vLLM's per-architecture config hook for our diffusion models."""

    @staticmethod
    def verify_and_update_config(vllm_config: VllmConfig) -> None:
        # vLLM asks again about a config that it has copied.
        is_first = not hasattr(vllm_config.model_config, "diffusion_plan")
        plan = with_one_block_length(vllm_config, _resolve_plan(vllm_config))
        vllm_config.model_config.diffusion_plan = plan  # type: ignore[attr-defined]
        _refuse_unsupported(vllm_config)
        temperatures_of(vllm_config.additional_config)
        check_composition(vllm_config, plan)
        _fit_ray(vllm_config.parallel_config)
        _fit(vllm_config, plan)
        vllm_config.diffusion_config = DiffusionConfig(
            canvas_length=plan.canvas_length, max_denoising_steps=plan.defaults.max_steps
        )
        scheduler = vllm_config.scheduler_config
        scheduler.scheduler_cls = SCHEDULER
        # A fused query is one block or two, which depends on whether the step
        # in flight converges: the next step can only be planned after it.
        if scheduler.async_scheduling:
            notices.say(notices.ASYNC_SCHEDULING)
        scheduler.async_scheduling = False
        if is_first:
            _say_what_is_read_otherwise(vllm_config, plan)
        logger.info("%s: %s.", plan.record.title, _summary(plan.defaults))
