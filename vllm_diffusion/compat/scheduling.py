"""Contacts in the engine core: the hooks of vLLM's scheduler, and what is read around it."""

from __future__ import annotations

from vllm_diffusion.compat.checks import Calls, Has, Reads, Takes, Typed
from vllm_diffusion.compat.contact import Contact

SCHEDULER = "vllm.v1.core.sched.scheduler.Scheduler"
REQUEST = "vllm.v1.request.Request"
OURS = "engine core, in scheduler/scheduler.py"

CONTACTS = (
    Contact(
        name="mamba_alignment",
        kind="override",
        targets=(
            f"{SCHEDULER}._mamba_block_aligned_split",
            f"{SCHEDULER}.need_mamba_block_aligned_split",
        ),
        what="Every query ends where a span does.",
        why="vLLM cuts prompts where the token budget ends, inside a block, and leaves canvases "
        "out of a request's first step",
        acts=f"{OURS}: the flag is set, the method replaced",
        breaks="If vLLM stops calling it, nothing fails, and blocks see half of themselves: wrong "
        "tokens",
        remove="vLLM asks its scheduler class how much of a request to schedule",
        checks=(
            Calls(f"{SCHEDULER}.schedule", "self._mamba_block_aligned_split", 2),
            Reads(f"{SCHEDULER}.schedule", "self.need_mamba_block_aligned_split", 2),
            Takes(
                f"{SCHEDULER}._mamba_block_aligned_split",
                (
                    "request",
                    "num_new_tokens",
                    "num_new_local_computed_tokens",
                    "num_external_computed_tokens",
                ),
            ),
        ),
    ),
    Contact(
        name="scheduled_canvases",
        kind="override",
        targets=(
            f"{SCHEDULER}._update_after_schedule",
            "vllm.v1.core.sched.output.SchedulerOutput.scheduled_spec_decode_tokens",
            "vllm.v1.core.sched.output.SchedulerOutput.num_scheduled_tokens",
        ),
        what="A step's canvases are in its output as draft tokens.",
        why="a request that has just left the waiting queue has no canvas in its first step",
        acts=OURS,
        breaks="Canvases are not decoded, or prompts are counted as denoising steps",
        remove="vLLM gives a scheduler class a hook between scheduling and output",
        checks=(
            Calls(f"{SCHEDULER}.schedule", "self._update_after_schedule"),
            Takes(f"{SCHEDULER}._update_after_schedule", ("scheduler_output",)),
        ),
    ),
    Contact(
        name="canvas_placeholders",
        kind="inside",
        targets=(f"{REQUEST}.spec_token_ids", f"{REQUEST}.num_tokens_with_spec"),
        what="A running request's canvas is in its queue entry as draft tokens.",
        why="vLLM schedules one token of a running request",
        acts=f"{OURS}: written before vLLM's scheduling",
        breaks="Steps have no canvas",
        remove="vLLM's scheduler knows canvases whose width follows from the request",
        checks=(Reads(f"{SCHEDULER}.schedule", "request.num_tokens_with_spec"),),
    ),
    Contact(
        name="next_query",
        kind="inside",
        targets=(f"{REQUEST}.num_computed_tokens", f"{REQUEST}.num_tokens"),
        what="A request's next query starts where final K and V end.",
        why="vLLM rolls back by what was not emitted",
        acts=f"{OURS}: assigned after vLLM's `update_from_output`",
        breaks="Scheduler and worker disagree about a request: wrong tokens",
        remove="vLLM takes the next query's start from the worker's output",
        checks=(
            Takes(f"{SCHEDULER}.update_from_output", ("scheduler_output", "model_runner_output")),
        ),
    ),
    Contact(
        name="final_pages",
        kind="override",
        targets=(f"{SCHEDULER}._update_request_with_output",),
        what="Pages are shared once their K and V are final.",
        why="since 0.33 vLLM shares pages as soon as their tokens are emitted, and a block's last "
        "forward still saw masks",
        acts=f"{OURS}: the next query's start is assigned there, before vLLM shares pages",
        breaks="A request whose prompt goes on from another one's text gets wrong tokens",
        remove="vLLM takes the next query's start from the worker's output",
        checks=(
            Calls(f"{SCHEDULER}.update_from_output", "self._update_request_with_output"),
            Takes(f"{SCHEDULER}._update_request_with_output", ("request", "new_token_ids")),
        ),
    ),
    Contact(
        name="freed_requests",
        kind="override",
        targets=(f"{SCHEDULER}._free_request",),
        what="What the scheduler keeps of a request goes with it.",
        why="the accounts of all requests stay for good",
        acts=OURS,
        breaks="The engine core's memory grows with every request",
        remove="vLLM tells its scheduler class that a request is gone",
        checks=(
            Calls(f"{SCHEDULER}.update_from_output", "self._free_request"),
            Calls(f"{SCHEDULER}.finish_requests", "self._free_request"),
            Takes(f"{SCHEDULER}._free_request", ("request",)),
        ),
    ),
    Contact(
        name="preempted_requests",
        kind="override",
        targets=(f"{SCHEDULER}._preempt_request",),
        what="A preempted request starts its block again.",
        why="its phase and its steps are those of a canvas that is gone",
        acts=OURS,
        breaks="A preempted request ends with other tokens",
        remove="vLLM tells its scheduler class of preemptions",
        checks=(
            Calls(f"{SCHEDULER}.schedule", "self._preempt_request"),
            Takes(f"{SCHEDULER}._preempt_request", ("request",)),
        ),
    ),
    Contact(
        name="failed_requests",
        kind="inside",
        targets=(f"{SCHEDULER}.grammar_compile_error_reqs",),
        what="A request that cannot go on ends with an error, alone.",
        why="an error of one request's constraint or fields ends the engine",
        acts=f"{OURS}: ids are added before vLLM's `update_from_output`",
        breaks="Failed requests go on, or the engine ends with the first of them",
        remove="vLLM lets a worker or a scheduler class end one request with a reason",
        checks=(
            Reads(f"{SCHEDULER}.update_from_output", "self.grammar_compile_error_reqs"),
            # The latter since 0.33.
            Typed(
                f"{SCHEDULER}.grammar_compile_error_reqs", ("set[str]", "dict[str, RequestError]")
            ),
        ),
    ),
    Contact(
        name="grammar_bitmask",
        kind="override",
        targets=(f"{SCHEDULER}.get_grammar_bitmask",),
        what="The engine core computes no bitmask.",
        why="vLLM's grammars would be followed by one token a step",
        acts=f"{OURS}: returns nothing",
        breaks="Constrained requests fail in the engine core",
        remove="vLLM lets a model follow grammars itself",
        checks=(
            Calls("vllm.v1.engine.core.EngineCore.step", "self.scheduler.get_grammar_bitmask"),
            Takes(f"{SCHEDULER}.get_grammar_bitmask", ("scheduler_output",)),
        ),
    ),
    Contact(
        name="rare_statistics",
        kind="override",
        targets=(
            f"{SCHEDULER}.make_stats",
            f"{SCHEDULER}.get_request_counts",
            f"{SCHEDULER}.log_stats",
            "vllm.config.ObservabilityConfig.enable_logging_iteration_details",
        ),
        what="Statistics ride with emitted tokens, and carry what diffusion counts.",
        why="every step sends the front end a message, though most steps emit nothing",
        acts=OURS,
        breaks="`/metrics` stands still, or lacks forwards by kind",
        remove="vLLM holds statistics of steps back that emit nothing",
        checks=(
            Calls(f"{SCHEDULER}.update_from_output", "self.make_stats"),
            Takes(f"{SCHEDULER}.make_stats", ("spec_decoding_stats",)),
        ),
    ),
    Contact(
        name="carried_counts",
        kind="inside",
        targets=(
            "vllm.v1.metrics.stats.RequestSpecDecodeMetrics",
            "vllm.v1.spec_decode.metrics.SpecDecodingStats",
        ),
        what="Diffusion's counts travel from the engine core to the front end.",
        why="vLLM decodes its messages by type, and drops a plugin's fields",
        acts="engine core and front end, in counters.py alone",
        breaks="Counts are lost, or vLLM's own are taken for ours",
        remove="vLLM's messages carry a record of a model's own",
        checks=(
            Has(
                "vllm.v1.metrics.stats.RequestSpecDecodeMetrics",
                (
                    "num_spec_tokens",
                    "num_draft_tokens",
                    "histogram",
                    "per_step_accepted",
                    "per_step_drafted",
                ),
            ),
            Has(
                "vllm.v1.spec_decode.metrics.SpecDecodingStats",
                (
                    "num_spec_tokens",
                    "num_drafts",
                    "num_draft_tokens",
                    "num_accepted_tokens",
                    "num_draft_tokens_per_pos",
                    "num_accepted_tokens_per_pos",
                ),
            ),
            Typed(
                "vllm.v1.engine.EngineCoreOutput.spec_decode_metrics",
                ("RequestSpecDecodeMetrics | None",),
            ),
            Typed(
                "vllm.v1.metrics.stats.SchedulerStats.spec_decoding_stats",
                ("SpecDecodingStats | None",),
            ),
        ),
    ),
    Contact(
        name="request_outputs",
        kind="inside",
        targets=(
            "vllm.v1.engine.EngineCoreOutput.stop_reason",
            "vllm.v1.engine.EngineCoreOutput.finish_reason",
            "vllm.v1.engine.EngineCoreOutputs.outputs",
        ),
        what="A request's last output has its account, and says why it failed.",
        why="responses have no metrics, and a failed request has no reason",
        acts=f"{OURS}: written after vLLM's `update_from_output`",
        breaks="Metrics or reasons are missing from responses",
        remove="vLLM lets a scheduler class complete outputs",
    ),
    Contact(
        name="page_salts",
        kind="inside",
        targets=(
            f"{REQUEST}.cache_salt",
            f"{REQUEST}.block_hashes",
            f"{REQUEST}.update_block_hashes",
        ),
        what="Pages of K and V are shared among requests of one block length alone.",
        why="a request gets K and V that were computed with blocks of another length",
        acts=f"{OURS}, when a request comes",
        breaks="A cached prefix changes tokens",
        remove="vLLM hashes a model's own fields with the tokens of a page",
    ),
    Contact(
        name="scheduler_state",
        kind="inside",
        targets=(
            f"{SCHEDULER}.running",
            f"{SCHEDULER}.requests",
            f"{SCHEDULER}.max_model_len",
            f"{SCHEDULER}.max_num_scheduled_tokens",
            f"{SCHEDULER}.block_size",
            f"{REQUEST}.num_prompt_tokens",
            f"{REQUEST}.sampling_params",
            f"{REQUEST}.max_tokens",
            f"{REQUEST}.status",
            "vllm.v1.request.RequestStatus.RUNNING",
        ),
        what="Spans are read off vLLM's queues, requests and limits.",
        why="there is no other account of what runs",
        acts=f"{OURS}; `max_model_len` is lowered to whole blocks",
        breaks="The engine core fails at start-up or at its first step",
        remove="vLLM documents what a scheduler class may read",
        checks=(Takes(f"{SCHEDULER}.schedule", ("throttle_prefills",)),),
    ),
    Contact(
        name="runner_output",
        kind="inside",
        targets=("vllm.v1.outputs.ModelRunnerOutput", "vllm.v1.outputs.LogprobsTensors"),
        what="Scores of a prompt wait for the first emitted block.",
        why="vLLM expects both from one step, and drops the scores",
        acts="engine core, in scheduler/prompt_scores.py",
        breaks="A prompt's log-probabilities are missing or one too many",
        remove="vLLM hands scores of a prompt on when they come",
        checks=(
            Has(
                "vllm.v1.outputs.ModelRunnerOutput",
                (
                    "req_ids",
                    "req_id_to_index",
                    "sampled_token_ids",
                    "prompt_logprobs_dict",
                    "prompt_token_id_logprobs_dict",
                ),
            ),
            Has(
                "vllm.v1.outputs.LogprobsTensors",
                ("logprob_token_ids", "logprobs", "selected_token_ranks"),
            ),
        ),
    ),
)
