"""The clients: what is installed for each, and what is known to fail for a reason upstream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client that a script ``with_NAME`` speaks for."""

    title: str
    """In the table."""
    packages: tuple[str, ...] = ()
    """With exact versions; none for what ``.venv`` has itself."""
    is_node: bool = False


CLIENTS = {
    "openai": Client(title="openai-python", packages=("openai==3.57.0",)),
    "openai_node": Client(
        title="openai-node", packages=("openai@6.49.0", "zod@4.6.7"), is_node=True
    ),
    "ai_sdk": Client(
        title="ai with @ai-sdk/openai-compatible 2.0.92",
        packages=("ai@6.0.326", "@ai-sdk/openai-compatible@2.0.92", "zod@4.6.7"),
        is_node=True,
    ),
    "inceptionai": Client(title="inceptionai", packages=("inceptionai==0.3.0",)),
    "litellm": Client(title="LiteLLM", packages=("litellm==1.110.2",)),
    "langchain": Client(
        title="LangChain 1.5.2, langchain-openai",
        packages=("langchain==1.5.2", "langchain-openai==1.7.4"),
    ),
    "llama_index": Client(
        title="LlamaIndex, OpenAILike", packages=("llama-index-llms-openai-like==0.8.1",)
    ),
    "pydantic_ai": Client(title="pydantic-ai", packages=("pydantic-ai-slim[openai]==2.68.0",)),
    "instructor": Client(title="instructor", packages=("instructor==1.17.0",)),
    "anthropic": Client(title="anthropic", packages=("anthropic==2.14.0",)),
    # Without torch: it only asks a server.
    "lm_eval": Client(title="lm-eval", packages=("lm-eval[api]==0.4.13", "transformers==5.23.0")),
    "vllm_bench": Client(title="vllm bench serve"),
}
"""By the name of the script."""

UPSTREAM: dict[tuple[str, str], str] = {}
"""Why a feature fails where the server cannot help it; ``docs/clients.md`` says more."""
