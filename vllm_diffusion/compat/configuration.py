"""Contacts in every process: vLLM's registries, and what start-up reads and sets of its config."""

from __future__ import annotations

from vllm_diffusion.compat.checks import Calls, Has, Reads, Takes
from vllm_diffusion.compat.contact import Contact

CONFIGS = "vllm.transformers_utils.config"
HOOK = "vllm.model_executor.models.config"
MODEL, WHOLE = "vllm.config.ModelConfig", "vllm.config.VllmConfig"

CONTACTS = (
    Contact(
        name="architectures",
        kind="registry",
        targets=("vllm.model_executor.models.registry.ModelRegistry",),
        what="vLLM knows the architectures that are served here.",
        why="vLLM refuses them",
        acts="every process, in compat/registries.py; names that are taken stay as they are, but "
        "for vLLM's DiffusionGemma on CPUs without Triton",
        breaks="Start-up fails",
        remove="never: it is what vLLM offers to plugins; whether a name is taken is not",
        checks=(
            Takes(
                "vllm.model_executor.models.registry._ModelRegistry.register_model",
                ("model_arch", "model_cls"),
            ),
            Has("vllm.model_executor.models.registry._ModelRegistry", ("models",)),
        ),
    ),
    Contact(
        name="config_registry",
        kind="registry",
        targets=(f"{CONFIGS}._CONFIG_REGISTRY",),
        what="`config.json` of a family is read without remote code.",
        why="vLLM asks for --trust-remote-code, and the authors' classes lack what its networks "
        "read",
        acts="every process, in compat/registries.py: one class a model type of ours",
        breaks="Start-up asks for --trust-remote-code",
        remove="vLLM lets plugins register config classes",
        checks=(Reads(f"{CONFIGS}.HFConfigParser.parse", "_CONFIG_REGISTRY"),),
    ),
    Contact(
        name="config_parser",
        kind="registry",
        targets=(
            f"{CONFIGS}._CONFIG_FORMAT_TO_CONFIG_PARSER",
            "vllm.transformers_utils.config_parser_base.ConfigParserBase",
        ),
        what="An architecture that --hf-overrides names is read by its own class; vLLM's errors go "
        "on with a hint.",
        why="a checkpoint under a foreign name cannot be served",
        acts="every process, in compat/registries.py: derived from the parser that is there, which "
        "reads all that is not ours; vLLM's own function warns in every process",
        breaks="Overrides are not followed, or errors have no hint",
        remove="vLLM reads the config of the architecture that --hf-overrides names",
        checks=(
            Reads(f"{CONFIGS}.get_config_parser", "_CONFIG_FORMAT_TO_CONFIG_PARSER"),
            Takes(f"{CONFIGS}.HFConfigParser.parse", ("model", "trust_remote_code")),
        ),
    ),
    Contact(
        name="start_hook",
        kind="registry",
        targets=(
            f"{HOOK}.MODELS_CONFIG_MAP",
            f"{HOOK}.VerifyAndUpdateConfig.verify_and_update_config",
            f"{HOOK}.VerifyAndUpdateConfig.verify_and_update_model_config",
        ),
        what="Start-up checks the checkpoint and sets limits that hold whole blocks.",
        why="limits that cannot hold give wrong tokens or a server that never answers",
        acts="every process, in startup/: one class for every architecture of ours",
        breaks="Start-up sets no scheduler: models are decoded token by token",
        remove="vLLM lets plugins register config hooks",
        checks=(
            Calls(
                f"{MODEL}._try_verify_and_update_model_config", "cls.verify_and_update_model_config"
            ),
            Calls(f"{WHOLE}.try_verify_and_update_config", "cls.verify_and_update_config"),
        ),
    ),
    Contact(
        name="diffusion_config",
        kind="inside",
        targets=(
            "vllm.config.diffusion.DiffusionConfig",
            f"{WHOLE}.diffusion_config",
            f"{MODEL}.is_diffusion",
        ),
        what="vLLM treats a checkpoint as a diffusion model.",
        why="vLLM schedules and counts it as an autoregressive one",
        acts="every process, in startup/: `canvas_length` is put on the model's config",
        breaks="Start-up fails, or the scheduler makes no room for canvases",
        remove="vLLM lets a model class say that it is one",
        checks=(
            Has("vllm.config.diffusion.DiffusionConfig", ("canvas_length", "max_denoising_steps")),
        ),
    ),
    Contact(
        name="limits",
        kind="inside",
        targets=(
            "vllm.config.CacheConfig.block_size",
            "vllm.config.CacheConfig.user_specified_block_size",
            "vllm.config.CacheConfig.enable_prefix_caching",
            "vllm.config.SchedulerConfig.max_num_batched_tokens",
            "vllm.config.SchedulerConfig.max_num_scheduled_tokens",
            "vllm.config.SchedulerConfig.long_prefill_token_threshold",
            "vllm.config.SchedulerConfig.scheduler_cls",
            "vllm.config.SchedulerConfig.async_scheduling",
            "vllm.config.ParallelConfig.enable_batch_sharded_sampling",
            "vllm.config.ParallelConfig.pipeline_parallel_size",
            "vllm.config.ParallelConfig.distributed_executor_backend",
            f"{MODEL}.max_model_len",
            f"{MODEL}.try_get_generation_config",
            f"{WHOLE}.additional_config",
        ),
        what="Pages, context and budgets hold whole blocks.",
        why="a page would be shared whose content depends on more than its hash covers",
        acts="every process, in startup/serving.py: what the user did not set is mended, the rest "
        "refused; the plan is put on vLLM's ModelConfig, which carries it to all processes",
        breaks="Start-up fails; a limit that is no longer read is not mended",
        remove="vLLM lets a model state what its limits must be",
    ),
)
