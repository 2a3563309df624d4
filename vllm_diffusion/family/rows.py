"""The rows: one record for each architecture that is served.

Defaults are the authors' own where sources agree, else the stricter value.
"""

from __future__ import annotations

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.mask_groups.block_causal import BlockCausal
from vllm_diffusion.mask_groups.causal_context import CausalContext
from vllm_diffusion.mask_groups.full import Full

SDAR = FamilyRecord(
    architecture="SDARForCausalLM",
    title="SDAR and TraDo (dense)",
    model="vllm_diffusion.models.qwen:SDARForCausalLM",
    model_type="sdar",
    config="vllm_diffusion.configs.qwen:SDARConfig",
    tensors="qwen3",
    mask_group=BlockCausal,
    block_lengths=(4, 64),
    block_length_is_free=True,
    # The authors' command line uses 0.85, their README 0.9; the stricter one
    # is the safer default for quality.
    default_threshold=0.9,
    mask_tokens=("<|MASK|>", "<MASK>"),
)

SDAR_MOE = FamilyRecord(
    architecture="SDARMoeForCausalLM",
    title="SDAR-MoE",
    model="vllm_diffusion.models.qwen:SDARMoeForCausalLM",
    model_type="sdar_moe",
    config="vllm_diffusion.configs.qwen:SDARMoeConfig",
    tensors="qwen3",
    mask_group=BlockCausal,
    block_lengths=(4, 64),
    block_length_is_free=True,
    default_threshold=0.9,
    mask_tokens=("<|MASK|>", "<MASK>"),
)

LLADA2 = FamilyRecord(
    architecture="LLaDA2MoeModelLM",
    title="LLaDA2.0, LLaDA2.0-CAP, LLaDA2.1",
    model="vllm_diffusion.models.bailing:LLaDA2ForCausalLM",
    model_type="llada2_moe",
    config="vllm_diffusion.configs.llada2:LLaDA2Config",
    tensors="llada2",
    mask_group=BlockCausal,
    block_lengths=(4, 64),
    default_block_length=32,
    default_threshold=0.95,
    has_edits=True,
    mask_tokens=("<|mask|>",),
    mask_token_id=156895,
)

DREAM_REASONER = FamilyRecord(
    architecture="DreamForCausalLM",
    title="DreamReasoner",
    model="vllm_diffusion.models.qwen:DreamForCausalLM",
    model_type="Dream",
    config="vllm_diffusion.configs.qwen:DreamConfig",
    tensors="qwen3",
    mask_group=BlockCausal,
    block_lengths=(4, 64),
    default_block_length=32,
    default_threshold=0.9,
    mask_tokens=("<|mask|>", "<|MASK|>"),
    mask_token_id=151669,
)

STABLE_DIFFCODER = FamilyRecord(
    architecture="StableDiffcoderForCausalLM",
    title="Stable-DiffCoder",
    model="vllm_diffusion.models.llama:StableDiffcoderForCausalLM",
    # Released as "llama"; an override needs a name that is not transformers' own.
    model_type="stable_diffcoder",
    config="vllm_diffusion.configs.llama:StableDiffcoderConfig",
    tensors="llama",
    mask_group=BlockCausal,
    block_lengths=(4, 64),
    default_block_length=4,
    # The authors' generate() has no threshold: a fixed number a step.
    default_policy="static",
    default_threshold=0.0,
    mask_tokens=("<[MASK_TOKEN]>",),
    mask_token_id=5,
)

FAST_DLLM_V2 = FamilyRecord(
    architecture="Fast_dLLM_QwenForCausalLM",
    title="Fast-dLLM v2",
    model="vllm_diffusion.models.qwen:FastDLLMForCausalLM",
    model_type="Fast_dLLM_Qwen",
    config="vllm_diffusion.configs.qwen:FastDLLMConfig",
    tensors="qwen2",
    mask_group=BlockCausal,
    block_lengths=(4, 64),
    default_block_length=32,
    default_threshold=0.9,
    logit_shift=True,
    has_seed=True,
    sub_block_length=8,
    mask_tokens=("|<MASK>|",),
    mask_token_id=151665,
)

NEMOTRON_LABS = FamilyRecord(
    architecture="NemotronLabsDiffusionModel",
    title="Nemotron-Labs-Diffusion",
    model="vllm_diffusion.models.llama:NemotronLabsDiffusionModel",
    model_type="nemotron_labs_diffusion",
    config="vllm_diffusion.configs.llama:NemotronLabsConfig",
    tensors="nemotron_labs",
    mask_group=CausalContext,
    block_lengths=(4, 64),
    default_block_length=32,
    default_threshold=0.9,
    has_seed=True,
    self_speculates=True,
    mask_token_id=100,
)

LLADA = FamilyRecord(
    architecture="LLaDAModelLM",
    title="LLaDA-8B, LLaDA-1.5, dLLM-Var",
    model="vllm_diffusion.models.llama:LLaDAForCausalLM",
    model_type="llada",
    config="vllm_diffusion.configs.llama:LLaDAConfig",
    tensors="llada",
    mask_group=Full,
    block_lengths=(4, 512),
    default_block_length=32,
    block_length_is_free=True,
    default_policy="static",
    default_threshold=0.0,
    has_guidance=True,
    mask_tokens=("<|mdm_mask|>",),
    mask_token_id=126336,
)

ILLADA = FamilyRecord(
    architecture="ILLaDAForCausalLM",
    title="iLLaDA",
    model="vllm_diffusion.models.llama:ILLaDAForCausalLM",
    model_type="illada",
    config="vllm_diffusion.configs.llama:ILLaDAConfig",
    tensors="llama",
    mask_group=Full,
    block_lengths=(4, 512),
    default_block_length=32,
    block_length_is_free=True,
    default_policy="static",
    default_threshold=0.0,
    has_guidance=True,
    mask_tokens=("<[MASK]>",),
    mask_token_id=5,
)

LLADA_MOE = FamilyRecord(
    architecture="LLaDAMoEModelLM",
    title="LLaDA-MoE",
    model="vllm_diffusion.models.qwen:LLaDAMoeForCausalLM",
    model_type="llada",
    config="vllm_diffusion.configs.llama:LLaDAConfig",
    tensors="qwen3",
    mask_group=Full,
    block_lengths=(4, 512),
    default_block_length=32,
    block_length_is_free=True,
    default_policy="static",
    default_threshold=0.0,
    has_guidance=True,
    mask_tokens=("<|mask|>",),
    mask_token_id=156895,
)

DREAM = FamilyRecord(
    architecture="DreamModel",
    title="Dream, Dream-Coder, DiffuCoder",
    model="vllm_diffusion.models.qwen:DreamModel",
    model_type="Dream",
    config="vllm_diffusion.configs.qwen:DreamConfig",
    tensors="qwen2",
    mask_group=Full,
    block_lengths=(4, 2048),
    default_block_length=512,
    block_length_is_free=True,
    default_policy="topk_entropy",
    default_threshold=0.0,
    logit_shift=True,
    mask_tokens=("<|mask|>",),
    mask_token_id=151666,
)

RND1 = FamilyRecord(
    architecture="RND1LM",
    title="RND1",
    model="vllm_diffusion.models.qwen:RND1LM",
    model_type="rnd1",
    config="vllm_diffusion.configs.qwen:RND1Config",
    tensors="qwen3",
    mask_group=Full,
    block_lengths=(4, 2048),
    default_block_length=256,
    block_length_is_free=True,
    default_policy="topk_entropy",
    default_threshold=0.0,
    logit_shift=True,
    mask_token_id=151669,
)

CODA = FamilyRecord(
    architecture="CoDALanguageModel",
    title="CoDA",
    model="vllm_diffusion.models.qwen:CoDALanguageModel",
    model_type="CoDA",
    config="vllm_diffusion.configs.qwen:CoDAConfig",
    tensors="qwen3",
    mask_group=Full,
    block_lengths=(4, 2048),
    default_block_length=256,
    block_length_is_free=True,
    default_policy="topk_entropy",
    default_threshold=0.0,
    logit_shift=True,
    mask_token_id=151669,
)

FAMILIES: dict[str, FamilyRecord] = {
    record.architecture: record
    for record in (
        SDAR,
        SDAR_MOE,
        LLADA2,
        DREAM_REASONER,
        STABLE_DIFFCODER,
        FAST_DLLM_V2,
        NEMOTRON_LABS,
        LLADA,
        ILLADA,
        LLADA_MOE,
        DREAM,
        RND1,
        CODA,
    )
}
"""By ``architectures[0]``; never by ``model_type``, which several families share."""
