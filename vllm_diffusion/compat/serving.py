"""Contacts in the API server: vLLM's handlers, request models, parsers and streams."""

from __future__ import annotations

from vllm_diffusion.compat.checks import Calls, Has, Sets, Spells, Takes
from vllm_diffusion.compat.contact import Contact

ENTRY = "vllm.entrypoints"
CHAT = f"{ENTRY}.openai.chat_completion"
RESPONSES = f"{ENTRY}.openai.responses"
COMPLETIONS = f"{ENTRY}.openai.completion"
ANTHROPIC = f"{ENTRY}.anthropic"
CHATS = f"{CHAT}.serving.OpenAIServingChat"
MESSAGES = f"{ANTHROPIC}.serving.AnthropicServingMessages"
PARSER = "vllm.parser.abstract_parser.DelegatingParser"
ENGINE = "vllm.v1.engine"
STATE = f"{ENTRY}.generate.api_router.init_generate_state"
OF_STATE = (
    *("openai_serving_chat", "openai_serving_completion", "openai_serving_responses"),
    *("openai_serving_chat_batch", "anthropic_serving_messages"),
)
"""Where vLLM's server keeps what answers requests."""

CONTACTS = (
    Contact(
        name="handlers",
        kind="inside",
        targets=(
            f"{CHATS}.create_chat_completion",
            f"{COMPLETIONS}.serving.OpenAIServingCompletion.create_completion",
            f"{RESPONSES}.serving.OpenAIServingResponses.create_responses",
            f"{CHAT}.batch_serving.OpenAIServingChatBatch.create_batch_chat_completion",
            f"{CHATS}.default_sampling_params",
        ),
        what="Requests are checked before a handler reads them, and responses completed.",
        why="fields that nobody reads are ignored",
        acts="API server, in server/install.py: methods of the handlers that vLLM's state holds",
        breaks="The server does not start and names the method; a handler under another name is "
        "left out, and its fields are not checked",
        remove="vLLM lets a model check and complete requests and responses",
        checks=tuple(Sets(STATE, f"state.{name}") for name in OF_STATE),
    ),
    Contact(
        name="anthropic_handlers",
        kind="inside",
        targets=(
            f"{MESSAGES}.create_messages",
            f"{MESSAGES}.count_tokens",
            f"{MESSAGES}.to_chat_completion_request",
        ),
        what="Anthropic's requests become this package's chats.",
        why="their own fields are dropped, and the fifth stop string is refused",
        acts="API server, in server/install.py",
        breaks="The server does not start, or Anthropic's fields are dropped",
        remove="vLLM lets a model check and complete requests and responses",
        checks=(
            Calls(f"{MESSAGES}.create_messages", "self.to_chat_completion_request"),
            Calls(f"{MESSAGES}.create_messages", "self.create_chat_completion"),
        ),
    ),
    Contact(
        name="stream_errors",
        kind="inside",
        targets=(
            f"{RESPONSES}.serving.OpenAIServingResponses."
            "_convert_generation_error_to_streaming_response",
        ),
        what="A response's stream ends with an error event.",
        why="vLLM's own model of events refuses the one that it makes, and the stream breaks off",
        acts="API server, in server/install.py: the method raises instead",
        breaks="Streams of failed responses break off",
        remove="vLLM's events have one for errors",
        checks=(
            Calls(
                f"{RESPONSES}.serving.OpenAIServingResponses",
                "self._convert_generation_error_to_streaming_response",
            ),
        ),
    ),
    Contact(
        name="error_shapes",
        kind="inside",
        targets=(
            f"{ENTRY}.serve.create_error_response",
            f"{ENTRY}.serve.engine.protocol.ErrorResponse",
            f"{ENTRY}.serve.exception_handling.handlers.validation.clean_loc_for_param",
            "vllm.exceptions.VLLMValidationError",
            "vllm.exceptions.VLLMClientError",
            "vllm.exceptions.GenerationError",
            "vllm.exceptions.GracefulHTTPError",
        ),
        what="Errors are told apart, and a field is named as vLLM names it.",
        why="errors have several shapes",
        acts="API server, in server/",
        breaks="Refusals become internal errors",
        remove="vLLM documents its errors",
    ),
    Contact(
        name="parsers",
        kind="override",
        targets=(
            f"{CHATS}.parser_cls",
            f"{RESPONSES}.serving.OpenAIServingResponses.parser",
            "vllm.parser.abstract_parser.Parser",
            f"{PARSER}.parse_delta",
            f"{PARSER}.parse",
            f"{PARSER}.adjust_request",
            f"{PARSER}.model_tokenizer",
        ),
        what="Parsers of tool calls and thoughts read a block token by token, and hold forced "
        "calls to objects.",
        why="several misplace text when a chunk holds more than one token",
        acts="API server, in server/token_feed.py and server/tool_grammar.py: classes derived from "
        "the server's own take their place",
        breaks="Text of streams is misplaced, or arguments of forced calls are no objects",
        remove="vLLM's parsers read chunks of any size, and hold arguments to objects",
        checks=(
            Takes(
                f"{PARSER}.parse_delta",
                ("delta_text", "delta_token_ids", "request", "prompt_token_ids", "finished"),
            ),
            Takes(
                f"{PARSER}.parse",
                ("model_output", "request", "enable_auto_tools", "model_output_token_ids"),
            ),
            Takes(f"{PARSER}.adjust_request", ("request",)),
            Calls(CHATS, "self.parser_cls"),
            Has("vllm.renderers.online_renderer.OnlineRenderer", ("parser",)),
            Has(
                f"{ENTRY}.generate.base.protocol.DeltaMessage",
                ("content", "reasoning", "tool_calls"),
            ),
            Has(f"{ENTRY}.generate.base.protocol.DeltaToolCall", ("index", "id", "type")),
            Has(f"{ENTRY}.generate.base.protocol.DeltaFunctionCall", ("name", "arguments")),
        ),
    ),
    Contact(
        name="reasoning_count",
        kind="inside",
        targets=(
            f"{PARSER}.count_reasoning_tokens",
            f"{PARSER}._reasoning_parser",
            "vllm.parser.engine.adapters.ParserEngineReasoningAdapter._streaming_count_valid",
        ),
        what="Reasoning tokens of a stream are counted over the whole output.",
        why="vLLM's count along a stream leaves out tokens that bring no text",
        acts="API server, in server/token_feed.py: a flag is taken back while vLLM counts",
        breaks="`reasoning_tokens` of streams is too small",
        remove="vLLM counts them",
    ),
    Contact(
        name="text_of_tokens",
        kind="inside",
        targets=(
            f"{ENGINE}.detokenizer.IncrementalDetokenizer.from_new_request",
            f"{ENGINE}.detokenizer.IncrementalDetokenizer.token_ids",
            f"{ENGINE}.detokenizer.BaseIncrementalDetokenizer.decode_next",
        ),
        what="A chunk is taken apart into the text of its tokens.",
        why="nobody knows where a token's text ends",
        acts="API server, in server/token_feed.py",
        breaks="Streams that are parsed fail",
        remove="vLLM's parsers read chunks of any size",
        checks=(
            Takes(
                f"{ENGINE}.detokenizer.IncrementalDetokenizer.from_new_request",
                ("tokenizer", "request"),
            ),
            Takes(
                f"{ENGINE}.detokenizer.BaseIncrementalDetokenizer.decode_next", ("next_token_id",)
            ),
        ),
    ),
    Contact(
        name="request_models",
        kind="override",
        targets=(
            f"{CHAT}.protocol.ChatCompletionRequest.to_sampling_params",
            f"{CHAT}.protocol.BatchChatCompletionRequest.to_chat_completion_request",
            f"{COMPLETIONS}.protocol.CompletionRequest",
            f"{RESPONSES}.protocol.ResponsesRequest.to_sampling_params",
            f"{ANTHROPIC}.protocol.AnthropicMessagesRequest",
            f"{ANTHROPIC}.protocol.AnthropicCountTokensRequest",
            "vllm.entrypoints.generate.base.protocol.StreamOptions",
        ),
        what="Request models are stricter, and read `reasoning_effort: instant` and "
        "`stream_options.diffusion_frames`.",
        why="vLLM's refuse it, and fail with a 500 on some bodies",
        acts="API server, in server/request_models.py, on the routes of our models",
        breaks="A field that vLLM has renamed is refused or ignored",
        remove="vLLM lets a model read requests",
        checks=(
            Has(
                f"{CHAT}.protocol.ChatCompletionRequest",
                (
                    "stop",
                    "stream_options",
                    "reasoning_effort",
                    "structured_outputs",
                    "vllm_xargs",
                ),
            ),
            Has(
                f"{COMPLETIONS}.protocol.CompletionRequest",
                ("stop", "stream_options", "suffix", "vllm_xargs"),
            ),
            Has(f"{RESPONSES}.protocol.ResponsesRequest", ("stop", "reasoning")),
            Has(f"{ANTHROPIC}.protocol.AnthropicMessagesRequest", ("stop_sequences",)),
        ),
    ),
    Contact(
        name="requests_that_are_left",
        kind="inside",
        targets=("vllm.entrypoints.serve.utils.api_utils.with_cancellation",),
        what="A request whose client hangs up is taken back.",
        why="a route of ours would go on for nobody",
        acts="API server, around the routes of endpoints/",
        breaks="The routes do not load",
        remove="vLLM documents it for plugins with routes",
        checks=(
            Takes("vllm.entrypoints.serve.utils.api_utils.with_cancellation", ("handler_func",)),
        ),
    ),
    Contact(
        name="engine_requests",
        kind="inside",
        targets=(f"{ENGINE}.EngineCoreRequest",),
        what="A request is checked together with its prompt, and gets its compiled constraint.",
        why="what a client asked for would not reach the engine",
        acts="API server, in server/validation.py, server/reasoning.py and server/compilation.py",
        breaks="Requests fail",
        remove="vLLM lets a model prepare requests",
        checks=(Has(f"{ENGINE}.EngineCoreRequest", ("sampling_params", "prompt_token_ids")),),
    ),
    Contact(
        name="chat_templates",
        kind="inside",
        targets=(
            "vllm.renderers.hf.resolve_chat_template",
            "vllm.renderers.hf.resolve_chat_template_kwargs",
            f"{CHATS}.trust_request_chat_template",
            f"{CHATS}.chat_template",
            f"{CHATS}.model_config",
        ),
        what="What the chat template does not read is refused.",
        why="`chat_template_kwargs` that nobody reads are ignored",
        acts="API server, in server/templates.py",
        breaks="Chats with such fields fail with a 500",
        remove="vLLM refuses them",
        checks=(
            Takes(
                "vllm.renderers.hf.resolve_chat_template",
                ("tokenizer", "chat_template", "tools", "model_config"),
            ),
            Takes(
                "vllm.renderers.hf.resolve_chat_template_kwargs",
                ("tokenizer", "chat_template", "chat_template_kwargs", "raise_on_unexpected"),
            ),
        ),
    ),
    Contact(
        name="outputs",
        kind="inside",
        targets=(
            f"{ENGINE}.output_processor.OutputProcessor.request_states",
            f"{ENGINE}.output_processor.RequestState.queue",
            f"{ENGINE}.output_processor.OutputProcessorOutput.request_outputs",
            f"{ENGINE}.output_processor.OutputProcessorOutput.reqs_to_abort",
        ),
        what="An error in one request's output reaches its own client.",
        why="it ends all requests of the server",
        acts="API server, in server/outputs.py",
        breaks="An error of one output ends the server",
        remove="vLLM isolates outputs",
        checks=(
            Takes(
                f"{ENGINE}.output_processor.OutputProcessor.abort_requests",
                ("request_ids", "internal"),
            ),
        ),
    ),
    Contact(
        name="engine_client",
        kind="inside",
        targets=(
            f"{ENGINE}.async_llm.AsyncLLM.shutdown",
            f"{ENGINE}.async_llm.AsyncLLM.check_admission",
            f"{ENGINE}.async_llm.AsyncLLM.errored",
            f"{ENGINE}.async_llm.AsyncLLM.output_processor",
            f"{ENGINE}.async_llm.AsyncLLM.input_processor",
            f"{ENGINE}.output_processor.OutputProcessor.propagate_error",
        ),
        what="Requests are answered when the server ends.",
        why="they wait for good",
        acts="API server, in server/ending.py: two methods of the engine's client are replaced",
        breaks="The server does not start, or clients wait",
        remove="vLLM fails requests in `AsyncLLM.shutdown`",
        checks=(
            Calls(f"{ENGINE}.async_llm.AsyncLLM.add_request", "self.check_admission"),
            Takes(f"{ENGINE}.async_llm.AsyncLLM.shutdown", ("timeout",)),
        ),
    ),
    Contact(
        name="decision_reads",
        kind="inside",
        targets=(
            f"{ENTRY}.serve.utils.api_utils.with_cancellation",
            "vllm.inputs.tokens_input",
            "vllm.renderers.online_renderer.OnlineRenderer.render_chat",
            f"{ENTRY}.openai.models.serving.OpenAIServingModels.is_base_model",
            f"{ENTRY}.openai.models.serving.OpenAIServingModels.model_name",
            f"{ENTRY}.openai.models.serving.OpenAIServingModels.lora_requests",
            f"{ENGINE}.async_llm.AsyncLLM.generate",
            f"{COMPLETIONS}.serving.OpenAIServingCompletion.render_completion_request",
            f"{COMPLETIONS}.protocol.CompletionResponse",
            "vllm.renderers.TokenizeParams",
            "vllm.renderers.base.BaseRenderer.tokenize_prompt",
            "vllm.renderers.base.BaseRenderer.tokenize_prompt_async",
        ),
        what="Questions become chats, and their answers' first tokens are read, as are the tokens "
        "of texts that are scored; drafts become tokens.",
        why="vLLM's own route of decisions answers for a list of architectures, which has none of "
        "this package's",
        acts="API server, in endpoints/decisions.py, server/label_reads.py, server/likelihood.py "
        "and server/likelihood_bound.py",
        breaks="Decisions fail, or go on when a client has gone",
        remove="vLLM's decisions take a model's own strategy",
        checks=(
            Takes("vllm.renderers.online_renderer.OnlineRenderer.render_chat", ("request",)),
            Takes("vllm.renderers.base.BaseRenderer.tokenize_prompt", ("prompt", "params")),
            Takes("vllm.renderers.base.BaseRenderer.tokenize_prompt_async", ("prompt", "params")),
            Takes(
                f"{ENGINE}.async_llm.AsyncLLM.generate",
                ("prompt", "sampling_params", "request_id", "prompt_text", "lora_request"),
            ),
            Takes(
                f"{COMPLETIONS}.serving.OpenAIServingCompletion.render_completion_request",
                ("request",),
            ),
        ),
    ),
    Contact(
        name="metrics_recorder",
        kind="override",
        targets=("vllm.v1.spec_decode.metrics.SpecDecodingProm",),
        what="vLLM's recorder of diffusion counters knows forwards by kind.",
        why="`/metrics` has vLLM's three counters alone",
        acts="API server, in server/prometheus.py",
        breaks="`/metrics` lacks forwards by kind",
        remove="vLLM counts forwards of diffusion models",
        checks=(
            Takes(
                "vllm.v1.spec_decode.metrics.SpecDecodingProm.__init__",
                ("speculative_config", "labelnames", "per_engine_labelvalues"),
            ),
            Takes(
                "vllm.v1.spec_decode.metrics.SpecDecodingProm.observe",
                ("spec_decoding_stats", "engine_idx"),
            ),
            Has("vllm.v1.spec_decode.metrics.SpecDecodingProm", ("is_diffusion",)),
        ),
    ),
    Contact(
        name="process_names",
        kind="inside",
        targets=(
            f"{ENGINE}.utils.CoreEngineProcManager",
            "vllm.v1.executor.multiproc_executor.WorkerProc.make_worker_process",
            "vllm.v1.executor.ray_utils.build_actor_name",
            "vllm.v1.utils.APIServerProcessManager",
        ),
        what="Engine core and worker end with the process that started them, ranks end together, "
        "and several front ends say once what start-up has changed.",
        why="an engine core whose API server was killed waits for good, and so do ranks for one "
        "that was killed",
        acts="engine core and worker, in isolation/lifetime.py, which knows vLLM's processes by "
        "the start of their names; front ends, in startup/notices.py",
        breaks="Processes stay behind",
        remove="vLLM ends them",
        checks=(
            Spells(f"{ENGINE}.utils.CoreEngineProcManager", "EngineCore"),
            Spells(
                "vllm.v1.executor.multiproc_executor.WorkerProc.make_worker_process", "VllmWorker"
            ),
            Spells("vllm.v1.executor.ray_utils.build_actor_name", "vllm_Worker_"),
            Spells("vllm.v1.utils.APIServerProcessManager", "ApiServer_"),
        ),
    ),
)
