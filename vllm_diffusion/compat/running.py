"""Contacts in the worker: vLLM's second model runner, its batch, its kernels and its networks."""

from __future__ import annotations

from vllm_diffusion.compat.checks import Calls, Has, Reads, Sets, Takes
from vllm_diffusion.compat.contact import Contact
from vllm_diffusion.compat.kernels import Kernels

GPU = "vllm.v1.worker.gpu"
RUNNER = f"{GPU}.model_runner.GPUModelRunner"
STATE = f"{GPU}.model_states.interface.ModelState"
PUNICA = "vllm.lora.punica_wrapper.punica_base.PunicaWrapperBase"
NETWORKS = "vllm.model_executor.models"
HOOKS = (
    "custom_sampler",
    "get_additional_cg_support",
    "initialize_kv_cache",
    "add_request",
    "remove_request",
    "apply_staged_writes",
    "prepare_inputs",
    "prepare_inputs_embeds",
    "prepare_attn",
)
"""Of the model state, called by the runner under these names."""

CONTACTS = (
    Contact(
        name="model_state",
        kind="override",
        targets=(
            STATE,
            f"{GPU}.block_table.BlockTables",
            "vllm.config.compilation.CUDAGraphMode",
        ),
        what="The worker's side of a diffusion model hangs on vLLM's model state.",
        why="the runner prepares and samples one token of a request",
        acts="worker, in worker/model_state.py",
        breaks="A hook that is no longer called leaves the runner's own inputs or attention in "
        "place: wrong tokens",
        remove="vLLM documents `ModelState` as an interface for plugins",
        checks=(
            *(Calls(RUNNER, f"self.model_state.{hook}") for hook in HOOKS),
            Calls(f"{GPU}.cudagraph_utils", "model_state.prepare_dummy_inputs"),
            Reads(RUNNER, "self.model_state.num_new_sampled_tokens_per_step"),
            Takes(f"{STATE}.__init__", ("vllm_config", "model", "encoder_cache", "device")),
            Takes(f"{STATE}.add_request", ("req_index", "new_req_data")),
            Takes(f"{STATE}.initialize_kv_cache", ("kv_cache_config", "block_tables")),
            Takes(f"{STATE}.prepare_inputs", ("input_batch", "req_states")),
            Takes(
                f"{STATE}.prepare_attn",
                (
                    "input_batch",
                    "cudagraph_mode",
                    "block_tables",
                    "slot_mappings",
                    "attn_groups",
                    "kv_cache_config",
                    "for_capture",
                    "ubatch_idx",
                ),
            ),
            Has(STATE, ("vllm_config", "model_config", "device", "max_num_reqs", "max_model_len")),
        ),
    ),
    Contact(
        name="model_states_class",
        kind="override",
        targets=(f"{GPU}.model_states.resolve_model_state_cls",),
        what="A model names the class of its state.",
        why="the runner takes vLLM's state of autoregressive models",
        acts="worker, in models/block_diffusion.py",
        breaks="Models are decoded token by token, as causal ones",
        remove="vLLM documents `get_model_state_cls`",
        checks=(Calls(f"{GPU}.model_states.resolve_model_state_cls", "model.get_model_state_cls"),),
    ),
    Contact(
        name="sampler",
        kind="inside",
        targets=(f"{RUNNER}.sampler", f"{GPU}.sample.output.SamplerOutput"),
        what="The denoising step stands in the place of the runner's sampler.",
        why="the runner samples from rows of logits that are no next tokens",
        acts="worker, in worker/sampler.py; returned by `custom_sampler`",
        breaks="The first step fails, or rejected positions count as computed",
        remove="vLLM documents what a custom sampler must have",
        checks=(
            Calls(RUNNER, "self.sampler"),
            Calls(RUNNER, "self.sampler.add_request"),
            Calls(RUNNER, "self.sampler.apply_staged_writes"),
            Reads(RUNNER, "self.sampler.penalties_state.output_bin_counts"),
            Reads(RUNNER, "self.sampler.compute_nans"),
            Has(
                f"{GPU}.sample.output.SamplerOutput",
                (
                    "sampled_token_ids",
                    "logprobs_tensors",
                    "num_nans",
                    "num_sampled",
                    "num_rejected",
                ),
            ),
        ),
    ),
    Contact(
        name="runner_batch",
        kind="inside",
        targets=(
            f"{GPU}.input_batch.InputBatch",
            f"{GPU}.states.RequestState",
            "vllm.v1.core.sched.output.NewRequestData",
        ),
        what="A step's phases, rows and tokens are read off the runner's batch.",
        why="there is no other account of a step on the device",
        acts="worker, in batch/, sampling/ and worker/inputs.py, which corrects inputs in place",
        breaks="The first step fails; a field of another meaning gives wrong tokens",
        remove="vLLM documents the batch that a model state is handed",
        checks=(
            Has(
                f"{GPU}.input_batch.InputBatch",
                (
                    *("num_reqs", "num_tokens", "num_draft_tokens", "idx_mapping", "input_ids"),
                    *("idx_mapping_np", "num_computed_tokens_np", "prefill_len_np", "positions"),
                    *("query_start_loc_np", "seq_lens", "cu_num_logits", "cu_num_logits_np"),
                    "logits_indices",
                ),
            ),
            Has(
                f"{GPU}.states.RequestState",
                ("all_token_ids", "total_len", "prompt_len", "draft_tokens", "device"),
            ),
            Has(
                "vllm.v1.core.sched.output.NewRequestData",
                ("req_id", "sampling_params", "prompt_token_ids", "prefill_token_ids"),
            ),
        ),
    ),
    Contact(
        name="adapter_rows",
        kind="inside",
        targets=(
            f"{PUNICA}.token_lora_indices",
            f"{PUNICA}._sampler_indices",
            f"{PUNICA}.indices_len",
            "vllm.lora.model_manager.LoRAModelManager.punica_wrapper_mapping",
            "vllm.utils.gpu_sync_debug.gpu_sync_allowed",
        ),
        what="Each row of logits has the LoRA adapter of its own token.",
        why="vLLM says one adapter a request, and the first step with --enable-lora fails or "
        "takes other adapters",
        acts="worker, in worker/adapters.py, before the forward",
        breaks="The first step fails, or rows of logits have another request's adapter",
        remove="vLLM's second runner repeats a request's adapter for each of its rows of logits",
        checks=(
            Calls("vllm.lora.model_manager.create_lora_manager", "lora_manager_cls"),
            Sets("vllm.lora.model_manager.LoRAModelManager", "self.model.lora_manager"),
            Reads(f"{PUNICA}.sampler_indices", "self.indices_len"),
            Reads(f"{PUNICA}.sampler_indices", "self._sampler_indices"),
            Calls(
                "vllm.lora.punica_wrapper.punica_gpu", "self.prompt_mapping_meta.prepare_tensors"
            ),
        ),
    ),
    Contact(
        name="attention_metadata",
        kind="inside",
        targets=(f"{GPU}.attn_utils.build_attn_metadata",),
        what="Virtual sequences become a backend's metadata.",
        why="vLLM makes metadata of one causal sequence a request",
        acts="worker, in worker/model_state.py and worker/attention_check.py",
        breaks="The first step fails; a new argument that matters is left at its default",
        remove="vLLM documents how a model state makes metadata",
        checks=(
            Takes(
                f"{GPU}.attn_utils.build_attn_metadata",
                (
                    *("attn_groups", "num_reqs", "num_tokens", "query_start_loc_gpu"),
                    *("query_start_loc_cpu", "max_query_len", "seq_lens", "max_seq_len"),
                    *("block_tables", "slot_mappings", "kv_cache_config", "causal"),
                    *("seq_lens_cpu_upper_bound", "for_cudagraph_capture"),
                ),
                in_order=False,
            ),
        ),
    ),
    Contact(
        name="attention_check",
        kind="inside",
        targets=(
            "vllm.forward_context.override_forward_context",
            "vllm.v1.kv_cache_interface.AttentionSpec.copy_with_new_block_size",
            "vllm.v1.kv_cache_interface.KVCacheGroupSpec",
            "vllm.v1.worker.utils.AttentionGroup.create_metadata_builders",
            "vllm.v1.kv_cache_interface.is_quantized_kv_cache",
            "vllm.config.compilation.CompilationConfig.static_forward_context",
        ),
        what="A backend's attention is compared with plain torch at start-up.",
        why="a backend that says it attends both ways, and does not, gives wrong tokens",
        acts="worker, in worker/attention_check.py, on the model's first layer",
        breaks="The check warns that it could not be made; serving goes on",
        remove="vLLM tests every backend without a causal mask",
        checks=(
            Takes(
                "vllm.forward_context.create_forward_context",
                ("attn_metadata", "vllm_config", "slot_mapping"),
                in_order=False,
            ),
            Has("vllm.v1.kv_cache_interface.KVCacheConfig", ("num_blocks", "kv_cache_groups")),
        ),
    ),
    Contact(
        name="both_ways",
        kind="inside",
        targets=(
            "vllm.v1.attention.backend.AttentionBackend.supports_non_causal",
            "vllm.v1.attention.backend.AttentionCGSupport.NEVER",
        ),
        what="A backend that is causal only is refused when the model is built.",
        why="attention quietly stays causal",
        acts="worker, in models/block_diffusion.py and worker/model_state.py",
        breaks="Start-up fails, or a causal backend is taken",
        remove="vLLM chooses backends by what a model needs",
    ),
    Contact(
        name="device_buffers",
        kind="inside",
        targets=(f"{GPU}.buffer_utils.UvaBackedTensor.copy_to_uva",),
        what="Parameters by slot are NumPy on the host and a tensor on the device.",
        why="each step would copy them again",
        acts="worker, in batch/, sampling/ and worker/",
        breaks="The worker fails at start-up",
        remove="vLLM documents these buffers, or they are copied into this package",
        checks=(
            Takes("vllm.utils.torch_utils.async_tensor_h2d", ("device",), in_order=False),
            Has(f"{GPU}.buffer_utils.UvaBackedTensor", ("np", "gpu")),
        ),
    ),
    Contact(
        name="cpu_kernels",
        kind="registry",
        targets=(
            "vllm.triton_utils.dispatcher.register_kernels",
            "vllm.v1.worker.cpu.shm",
        ),
        what="The runner's Triton kernels in NumPy and torch, where vLLM has no Triton.",
        why="the second model runner has no kernels on a CPU",
        acts="worker, in cpu/registry.py, before the runner is imported",
        breaks="Start-up names the kernel; a kernel of the same parameters and another meaning "
        "gives wrong tokens",
        remove="vLLM's CPU build has these kernels",
        without_triton=True,
        checks=(Kernels("vllm.v1.worker"),),
    ),
    Contact(
        name="next_power_of_2",
        kind="inside",
        targets=("vllm.triton_utils.importing.TritonPlaceholder",),
        what="vLLM's stand-in for Triton knows powers of two.",
        why="the runner's host code fails where it sizes blocks",
        acts="worker, in cpu/registry.py: put into `vllm.triton_utils.triton` where it is missing",
        breaks="The first step fails",
        remove="vLLM's stand-in has it",
        without_triton=True,
        checks=(Reads(f"{GPU}.input_batch", "triton.next_power_of_2"),),
    ),
    Contact(
        name="networks",
        kind="inside",
        targets=(
            f"{NETWORKS}.qwen2.Qwen2ForCausalLM",
            f"{NETWORKS}.qwen3.Qwen3ForCausalLM",
            f"{NETWORKS}.qwen3_moe.Qwen3MoeForCausalLM",
            f"{NETWORKS}.llama.LlamaForCausalLM",
            f"{NETWORKS}.mistral.MistralForCausalLM",
            f"{NETWORKS}.bailing_moe.BailingMoeV2ForCausalLM",
            f"{NETWORKS}.utils.WeightsMapper.apply",
        ),
        what="A family's network is vLLM's, under the released names.",
        why="each family needs a network of its own",
        acts="worker, in models/",
        breaks="Weights do not load, or hidden states differ",
        remove="never: a network of vLLM's is what a plugin is for; `tests/parity` compares each",
        checks=tuple(
            Takes(f"{NETWORKS}.{network}.compute_logits", ("hidden_states",))
            for network in (
                "qwen2.Qwen2ForCausalLM",
                "qwen3.Qwen3ForCausalLM",
                "qwen3_moe.Qwen3MoeForCausalLM",
                "llama.LlamaForCausalLM",
                "bailing_moe.BailingMoeV2ForCausalLM",
            )
        ),
    ),
    Contact(
        name="router_class",
        kind="inside",
        targets=(f"{NETWORKS}.bailing_moe.BailingMoE.forward",),
        what="LLaDA2's router keeps its logits in float32.",
        why="about 3 % of the tokens go to other experts in each layer",
        acts="worker, in models/bailing.py: the class of built layers is changed",
        breaks="A `forward` of another form is left out; experts differ",
        remove="vLLM's BailingMoE has a router in float32, or names its class in a hook",
        checks=(
            Calls(f"{NETWORKS}.bailing_moe.BailingMoE.forward", "self.gate"),
            Calls(f"{NETWORKS}.bailing_moe.BailingMoE.forward", "self.experts"),
            Reads(f"{NETWORKS}.bailing_moe.BailingMoeBlock.__init__", "BailingMoE"),
        ),
    ),
    Contact(
        name="gemma_without_images",
        kind="inside",
        targets=(
            f"{NETWORKS}.diffusion_gemma.DiffusionGemmaForConditionalGeneration",
            f"{NETWORKS}.gemma4_mm.Gemma4Processor",
        ),
        what="DiffusionGemma is imported without torchvision.",
        why="a CPU host without torchvision cannot import vLLM's class",
        acts="worker, in models/diffusion_gemma.py: a name is put into "
        "`transformers.models.gemma4` while vLLM's module is imported, on CPUs without Triton",
        breaks="DiffusionGemma cannot be imported there",
        remove="vLLM imports the processor where it needs it",
        without_triton=True,
        checks=(
            Has(
                f"{NETWORKS}.diffusion_gemma.DiffusionGemmaForConditionalGeneration",
                ("hf_to_vllm_mapper", "supports_multimodal"),
            ),
        ),
    ),
    Contact(
        name="worker_tokenizer",
        kind="inside",
        targets=(
            "vllm.tokenizers.cached_tokenizer_from_config",
            "vllm.reasoning.ReasoningParserManager.get_reasoning_parser",
        ),
        what="Constraints know the bytes of tokens, and where a model's thoughts end.",
        why="a worker has no tokenizer",
        acts="worker, in worker/matchers.py; API server, in server/finished.py",
        breaks="Constrained requests fail",
        remove="vLLM documents how a plugin gets at the tokenizer",
    ),
)
