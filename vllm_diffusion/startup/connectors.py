"""K and V from other engines (``--kv-transfer-config``): where they are right, and where not.

What a connector hands over counts as computed. So it has to be final, it has
to end where a query may start, and it has to belong to this model: the same
adapter, the same block length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from vllm_diffusion.request.plan import DecodePlan

PROVED = "ExampleConnector"
"""The connector whose texts ``tests/parity/test_connectors.py`` compares with the reference.

It finds K and V by the tokens of a prompt alone.
"""


def _flag(vllm_config: VllmConfig) -> str | None:
    """The option that asks for a connector, if one does."""
    if vllm_config.cache_config.kv_offloading_size is not None:
        return "--kv-offloading-size"
    transfer = vllm_config.kv_transfer_config
    is_asked = transfer is not None and transfer.kv_connector is not None
    return "--kv-transfer-config" if is_asked else None


def _connector(vllm_config: VllmConfig) -> str:
    """The name of what hands over K and V."""
    transfer = vllm_config.kv_transfer_config
    if vllm_config.cache_config.kv_offloading_size is not None or transfer is None:
        return "a connector of vLLM's choice"
    # A module of the user's own may use vLLM's name.
    module = transfer.kv_connector_module_path
    return f"{module}:{transfer.kv_connector}" if module else str(transfer.kv_connector)


def check_connector(vllm_config: VllmConfig, plan: DecodePlan) -> None:
    """Refuse connectors that would hand over wrong K and V.

    Raises:
        ValueError: an option, with the reason and the remedy.
    """
    flag = _flag(vllm_config)
    if flag is None:
        return
    limits = plan.record.mask_group.limits(
        plan.canvas_length, vllm_config.model_config.max_model_len
    )
    if not limits.shares_pages:
        raise ValueError(
            f"{flag} is refused for {plan.record.title}: it attends in full, so K and V of a "
            "prompt depend on what follows it, and those of another request give a wrong text; "
            "leave it out"
        )
    name = _connector(vllm_config)
    if name != PROVED:
        raise ValueError(
            f"{flag} takes {name}, of which nobody has proved that it hands over whole and final "
            f"diffusion blocks; take {PROVED} or leave it out"
        )
    if vllm_config.scheduler_config.enable_chunked_prefill:
        raise ValueError(
            f"{flag} takes {name}, which stores all of a prompt with its first chunk, before "
            "the others are computed; say --no-enable-chunked-prefill"
        )
    if vllm_config.lora_config is not None:
        raise ValueError(
            f"{flag} takes {name}, which finds K and V by tokens alone, and --enable-lora gives "
            "them other values for each adapter; leave one of them out"
        )


def has_one_block_length(vllm_config: VllmConfig, plan: DecodePlan) -> bool:
    """Whether K and V are shared by tokens alone, while they depend on the block length."""
    return _flag(vllm_config) is not None and plan.record.mask_group.is_aligned


def with_one_block_length(vllm_config: VllmConfig, plan: DecodePlan) -> DecodePlan:
    """The plan for engines that share K and V by tokens: all blocks are of the served length."""
    if not has_one_block_length(vllm_config, plan):
        return plan
    return replace(plan, record=replace(plan.record, block_length_is_free=False))
