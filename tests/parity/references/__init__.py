"""What the models compute, in plain torch: no vLLM, and nothing of the package."""
