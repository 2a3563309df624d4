"""What happens to a diffusion model's config as soon as vLLM has read it.

The rest of start-up, which needs vLLM's other settings, is in ``serving``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.logger import init_logger

from vllm_diffusion.checkpoint.check import check_mask_token, check_tensors, mask_token_id
from vllm_diffusion.checkpoint.llada2 import is_edit_trained
from vllm_diffusion.configs.base import unsupported_fields
from vllm_diffusion.family.rows import FAMILIES
from vllm_diffusion.startup.serving import BlockDiffusionServing

if TYPE_CHECKING:
    from vllm.config import ModelConfig

logger = init_logger(f"vllm.{__name__}")

EDITING = "quality"
"""The preset of weights that were trained to edit."""


def prepare(model_config: ModelConfig) -> None:
    """Complete the config of one of our architectures, and check the checkpoint.

    Raises:
        ValueError: a checkpoint that cannot be served, with the reason and the remedy.
    """
    config = model_config.hf_config
    record = FAMILIES[model_config.architecture]
    # vLLM gives every layer the window that it finds, whatever the switch beside it says.
    if not getattr(config, "use_sliding_window", True):
        config.sliding_window = None
    problems = unsupported_fields(config)
    if problems:
        raise ValueError(
            f"this {record.architecture} is not supported, because of {', '.join(problems)} "
            "in its config.json"
        )
    # Again, for the families that have no shim, and for --hf-overrides.
    config.is_causal = True
    config.mask_token_id = mask_token_id(record, config, model_config.model)
    generation = model_config.try_get_generation_config()
    check_mask_token(config.mask_token_id, config, generation, model_config.model)
    block_length = getattr(config, "block_size", None) or record.default_block_length
    # It makes vLLM treat the checkpoint as a diffusion model.
    config.canvas_length = block_length or record.block_lengths[0]
    check_tensors(model_config.model, record.architecture, config)
    if record.has_edits:
        _choose_preset(model_config)


def _choose_preset(model_config: ModelConfig) -> None:
    """Edit by default what was trained to edit."""
    is_trained = is_edit_trained(model_config.model)
    if is_trained:
        logger.info("The weights are trained to edit: preset %r unless said otherwise.", EDITING)
        model_config.hf_config.diffusion_preset = EDITING
    elif is_trained is None:
        logger.warning(
            "%s does not tell whether its weights are trained to edit (LLaDA2.1): they are "
            "decoded without edits. If they are, say --additional-config "
            '\'{"diffusion": {"preset": "%s"}}\'.',
            model_config.model,
            EDITING,
        )


class DiffusionStartup(BlockDiffusionServing):
    """vLLM's hook for our architectures: first the model's config, then the whole one."""

    @staticmethod
    def verify_and_update_model_config(model_config: ModelConfig) -> None:
        prepare(model_config)
