"""The one registration, which vLLM calls in every process."""


def register() -> None:
    """Register architectures, config shims and patches; safe to call again."""
    from vllm_diffusion import compat
    from vllm_diffusion.compat import registries

    registries.register()
    compat.apply()
