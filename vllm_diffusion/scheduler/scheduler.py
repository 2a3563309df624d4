"""Block-wise scheduling: canvas widths, block borders and the free commit.

What a step has to compute of a request is its span (``spans``). A request that
is scheduled whole gets everything from its first uncomputed token to the end of
its span in one query, so that

* the prompt's last chunk and the first denoising step share a forward;
* the forward that makes a finished block's K and V final is the next block's
  first denoising step, and costs nothing extra.

Where the token budget is too small for that, a query is as much of the known
tokens as fits, and the canvas waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.logger import init_logger
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.spec_decode.metrics import SpecDecodingStats

from vllm_diffusion.isolation.failures import MESSAGES, PREFIX, Failure, failure_of
from vllm_diffusion.isolation.lifetime import end_ranks_together, end_with_parent
from vllm_diffusion.mask_groups.spans import Progress
from vllm_diffusion.request.parsed import received
from vllm_diffusion.scheduler.frames import NumberedFrames, tell
from vllm_diffusion.scheduler.pipeline import Pipeline
from vllm_diffusion.scheduler.prompt_scores import PromptScores
from vllm_diffusion.scheduler.stats import DecodeStats
from vllm_diffusion.startup.serving import plan_of

logger = init_logger(f"vllm.{__name__}")

PLACEHOLDER = -1
"""Canvas tokens live in the worker; the scheduler only counts them."""


class BlockDiffusionScheduler(Scheduler):
    """vLLM's scheduler, with queries that start and end at block borders."""

    reads_draft_tokens = False
    """A canvas's width follows from its request; ``compat`` reads this."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        end_with_parent()
        end_ranks_together()
        self.plan = plan_of(self.vllm_config.model_config)
        record, served = self.plan.record, self.plan.canvas_length
        limit: int = vars(self)["max_model_len"]  # the base class's, which has no type here
        unit = record.mask_group.limits(served, limit).unit
        if self.block_size % unit:
            raise ValueError(
                f"a KV page of {self.block_size} tokens does not hold whole diffusion blocks "
                f"of {unit}; set --block-size to a multiple of {unit}"
            )
        # Auto-fit may have lowered the limit since start-up.
        self.max_model_len = limit // unit * unit
        self.mask_group = record.mask_group(
            record, page=self.block_size, max_model_len=self.max_model_len
        )
        # The base class asks this hook how much of a request to schedule.
        self.need_mamba_block_aligned_split = True
        self.pipeline = Pipeline(self.vllm_config.parallel_config.pipeline_parallel_size)
        self.progress_of: dict[str, Progress] = {}
        # Known tokens of the requests whose canvas is in a step under way.
        self.known_of: dict[str, int] = {}
        self.doomed: dict[str, Failure] = {}
        """Requests that end with their next step, and why."""
        self.decode_stats = DecodeStats(served)
        self.prompt_scores = PromptScores()
        self.frames = NumberedFrames()
        self._closed: list[str] = []
        # Where the next queries of the requests of the step under way start.
        self._resume_at: dict[str, int] = {}
        self._num_scheduled = 0
        self._has_output = False
        # Running and waiting requests, as the front end last heard of them.
        self._reported = (0, 0)
        # vLLM takes statistics that are held back for zeros when it logs every step.
        self._reports_all = self.vllm_config.observability_config.enable_logging_iteration_details

    def add_request(self, request: Request) -> None:
        try:
            self._open(request)
        except Exception:
            # It belongs to this request: it takes its turn, and ends with its first step.
            logger.exception("Request %s cannot be taken over.", request.request_id)
            last = min(request.num_prompt_tokens + 1, self.max_model_len)
            progress = Progress(self.plan.defaults, request.num_prompt_tokens, last)
            self.progress_of[request.request_id] = progress
            self.decode_stats.open(request.request_id)
            self.doomed[request.request_id] = Failure.PARAMETERS
        super().add_request(request)

    def _open(self, request: Request) -> None:
        """Note what the request asks for."""
        sampling = request.sampling_params
        assert sampling is not None and sampling.max_tokens is not None
        parsed = received(sampling, self.plan)
        decode = parsed.decode
        is_guided = decode.guidance_scale > 0
        longest = self.mask_group.longest(is_guided=is_guided)
        last = min(request.num_prompt_tokens + sampling.max_tokens, longest)
        if is_guided:
            # The worker reads it too: the output ends where the second sequence would not fit.
            sampling.max_tokens = request.max_tokens = last - request.num_prompt_tokens
        self.progress_of[request.request_id] = Progress(
            decode, request.num_prompt_tokens, self.mask_group.canvas_end(last)
        )
        salt = request.cache_salt
        if salt is not None or decode.block_length != self.plan.canvas_length:
            # K and V depend on the block length, so pages are shared only among
            # requests of the same one. The length stands first, so that no
            # client's own salt can be mistaken for it.
            request.cache_salt = f"{decode.block_length}/{salt or ''}"
            request.block_hashes.clear()
            request.update_block_hashes()
        if self.connector is not None and request.num_prompt_tokens % self.block_size == 1:
            # ExampleConnector looks for a page less than it would load, and fails at the last one.
            request.skip_reading_prefix_cache = True
        self.decode_stats.open(request.request_id)
        self.frames.open(request.request_id, parsed.watcher)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        self.progress_of.pop(request.request_id, None)
        self.known_of.pop(request.request_id, None)
        self.pipeline.done((request.request_id,))
        self.doomed.pop(request.request_id, None)
        self.prompt_scores.forget(request.request_id)
        self.frames.close(request.request_id)
        freed = super()._free_request(request, *args, **kwargs)
        self._closed.append(request.request_id)
        return freed

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self._start_over(request.request_id)
        super()._preempt_request(request, *args, **kwargs)

    def _start_over(self, request_id: str) -> None:
        """K and V of the request are gone, and its canvas with them."""
        self.decode_stats.restarted(request_id)
        self.progress_of[request_id].restart()

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        self._num_scheduled = 0
        num_requests = len(self.running) + len(self.waiting)
        self.pipeline.plan(min(num_requests, self.max_num_running_reqs))
        for request in self.running:
            known = request.num_tokens
            span = self.mask_group.span(known, self.progress_of[request.request_id])
            request.spec_token_ids = [PLACEHOLDER] * (span.end - known)
        return super().schedule(throttle_prefills)

    def _mamba_block_aligned_split(
        self,
        request: Request,
        num_new_tokens: int,
        num_new_local_computed_tokens: int = 0,
        num_external_computed_tokens: int = 0,
    ) -> int:
        """How much of ``request`` to compute in this step; 0 lets it wait.

        ``num_new_tokens`` is what the base class would take: within the budget,
        and without a canvas when the request has just left the waiting queue.
        """
        if self.pipeline.waits(request.request_id):
            return 0
        start = (
            request.num_computed_tokens
            + num_new_local_computed_tokens
            + num_external_computed_tokens
        )
        known = request.num_tokens
        span = self.mask_group.span(known, self.progress_of[request.request_id])
        whole = span.end - start
        if request.status == RequestStatus.RUNNING:
            is_whole = num_new_tokens == whole
        else:
            # What this step has given out so far, at most: some of it may have
            # been taken back by a preemption.
            left = self.max_num_scheduled_tokens - self._num_scheduled
            is_whole = start + num_new_tokens == known and whole <= left
        if is_whole:
            num_tokens = whole
        else:
            pieces = min(num_new_tokens, span.whole_until - start) // span.grain
            num_tokens = max(pieces * span.grain, 0)
        self._num_scheduled += num_tokens
        if num_tokens:
            self.pipeline.take()
        return num_tokens

    def _update_after_schedule(self, scheduler_output: SchedulerOutput) -> None:
        drafts = scheduler_output.scheduled_spec_decode_tokens
        for request_id, num_tokens in scheduler_output.num_scheduled_tokens.items():
            request = self.requests[request_id]
            known = request.num_tokens
            if request.num_computed_tokens + num_tokens > known:
                # Also for requests from the waiting queue, to which the base
                # class gives no canvas, and where masks follow the canvas.
                span = self.mask_group.span(known, self.progress_of[request_id])
                drafts[request_id] = [PLACEHOLDER] * span.width
                self.known_of[request_id] = known
            else:
                self.decode_stats.prefilled(request_id)
        self.pipeline.send(drafts)
        super()._update_after_schedule(scheduler_output)

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        emitted = model_runner_output.sampled_token_ids
        failed = self._take_failures(scheduler_output, model_runner_output)
        canvases = scheduler_output.scheduled_spec_decode_tokens
        self.pipeline.done(canvases)
        # Before this step is counted.
        frames = self._frames(canvases, model_runner_output)
        self._resume_at.clear()
        for request_id, canvas in canvases.items():
            if request_id in self.requests:
                row = model_runner_output.req_id_to_index[request_id]
                num_emitted = len(emitted[row])
                known, progress = self.known_of[request_id], self.progress_of[request_id]
                self.decode_stats.denoised(
                    request_id,
                    width=len(canvas),
                    num_emitted=num_emitted,
                    is_approximate=progress.is_warm,
                )
                self._resume_at[request_id] = self.mask_group.advance(known, num_emitted, progress)
                if self.requests[request_id].status == RequestStatus.PREEMPTED:
                    # While the step was under way; what it has emitted counts.
                    self._start_over(request_id)
        self.prompt_scores.hold(model_runner_output, self.requests)
        self._has_output = any(map(len, emitted)) if emitted else False
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        if failed:
            self._tell_failures(outputs, failed)
        if frames:
            tell(outputs, frames)
        for request_id in self._resume_at:
            if (request := self.requests.get(request_id)) is not None:
                self._resume(request)
        self._report_requests(outputs)
        return outputs

    def _frames(
        self, canvases: Mapping[str, Any], output: ModelRunnerOutput
    ) -> list[tuple[int, EngineCoreOutput]]:
        if not self.frames.watcher_of:
            return []
        known = {request_id: self.known_of[request_id] for request_id in canvases}
        return self.frames.made(output, self.requests, known, self.decode_stats.accounts)

    def _resume(self, request: Request) -> None:
        """Let the next query start where final K and V end.

        The base class rolls back by what was not emitted, which is not there.
        """
        position = self._resume_at.get(request.request_id)
        # A preempted request starts over.
        if position is not None and request.num_computed_tokens > 0:
            request.num_computed_tokens = position

    def _update_request_with_output(
        self, request: Request, *args: Any, **kwargs: Any
    ) -> tuple[list[int], bool]:
        """With this step's tokens; some vLLMs share the request's pages right after it."""
        updated = super()._update_request_with_output(request, *args, **kwargs)
        self._resume(request)
        return updated

    def _take_failures(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[str, str]:
        """Requests that the worker could not go on with, and why; they end with this step."""
        failed: dict[str, str] = {}
        emitted = model_runner_output.sampled_token_ids
        for request_id in scheduler_output.num_scheduled_tokens:
            row = model_runner_output.req_id_to_index.get(request_id)
            failure = self.doomed.get(request_id)
            if failure is None and row is not None and emitted:
                failure = failure_of(emitted[row])
            if failure is not None and request_id in self.requests:
                if row is not None and emitted:
                    emitted[row] = []
                failed[request_id] = MESSAGES[failure]
        # The base class ends these with an error, once it is through with the step. Its table is
        # a set or, since vLLM 0.33, has vLLM's own errors, which cannot say what ``outputs`` does.
        self.grammar_compile_error_reqs.update(dict.fromkeys(failed))
        return failed

    @staticmethod
    def _tell_failures(outputs: dict[int, EngineCoreOutputs], failed: dict[str, str]) -> None:
        for of_client in outputs.values():
            for output in of_client.outputs:
                if output.request_id in failed and output.finish_reason is not None:
                    output.stop_reason = PREFIX + failed[output.request_id]

    def get_grammar_bitmask(self, scheduler_output: SchedulerOutput) -> None:
        """The worker follows constraints itself, within a canvas."""

    def _report_requests(self, outputs: dict[int, EngineCoreOutputs]) -> None:
        """Give each request's account to the front end with its last output.

        A stop string is found by the front end, which aborts the request: there
        any output may turn out to have been the last.
        """
        for of_client in outputs.values():
            for output in of_client.outputs:
                request = self.requests.get(output.request_id)
                is_last = output.finish_reason is not None
                params = request.sampling_params if request is not None else None
                if is_last or (params is not None and params.stop):
                    output.spec_decode_metrics = self.decode_stats.of_request(output.request_id)
        for request_id in self._closed:
            self.decode_stats.close(request_id)
        self._closed.clear()

    def make_stats(
        self, spec_decoding_stats: SpecDecodingStats | None = None, *args: Any, **kwargs: Any
    ) -> SchedulerStats | None:
        """Statistics ride with emitted tokens, or when requests have come or gone.

        Most steps emit nothing; a message to the front end for each would cost
        more than the step's own scheduling. A request that is aborted emits
        nothing either, and may leave an idle engine behind, which has no next step.
        """
        if not self.log_stats:
            return None
        self.decode_stats.hold(spec_decoding_stats)
        has_more = any(arg is not None for arg in (*args, *kwargs.values()))
        counts = self.get_request_counts()
        is_news = self._has_output or counts != self._reported
        if not (is_news or has_more or self._reports_all):
            return None
        self._reported = counts
        return super().make_stats(self.decode_stats.report(), *args, **kwargs)
