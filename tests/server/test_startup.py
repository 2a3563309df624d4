"""A configuration that cannot hold is refused at start-up, with the flag and the remedy.

No weights are read: only the config is made, but for one test in this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs

from tests.checkpoints import sdar
from tests.server.process import ServerProcess
from vllm_diffusion import plugin
from vllm_diffusion.request.params import DecodeParams
from vllm_diffusion.startup import notices, serving

MakeConfig = Callable[..., VllmConfig]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with blocks of 4."""
    return sdar.write(tmp_path_factory.mktemp("sdar"), block_size=4)


@pytest.fixture(scope="module")
def make(folder: Path) -> Iterator[MakeConfig]:
    plugin.register()

    def config(model: Path = folder, **args: Any) -> VllmConfig:
        defaults: dict[str, Any] = {"max_model_len": 512, "skip_tokenizer_init": True}
        return EngineArgs(model=str(model), **defaults | args).create_engine_config()

    return config


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged at start-up, whatever the log level."""
    lines: list[str] = []
    note = lambda text, *args: lines.append(text % args)  # noqa: E731
    monkeypatch.setattr(serving.logger, "info", note)
    monkeypatch.setattr(notices.logger, "log", lambda _, text, *args: note(text, *args))
    return lines


def changed(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy of the checkpoint's config with fields changed, or removed where None."""
    config = json.loads((folder / "config.json").read_text()) | changes
    target.mkdir(exist_ok=True)
    kept = {name: value for name, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(kept))
    return target


def test_a_sound_configuration(make: MakeConfig, logged: list[str]) -> None:
    config = make()
    assert config.scheduler_config.scheduler_cls == serving.SCHEDULER
    assert not config.scheduler_config.async_scheduling
    assert config.use_v2_model_runner
    assert config.cache_config.enable_prefix_caching
    assert config.diffusion_config.canvas_length == 4
    plan = serving.plan_of(config.model_config)
    assert (plan.mask_id, plan.canvas_length) == (sdar.CONFIG["mask_token_id"], 4)
    assert "blocks of 4, policy confidence, threshold 0.9, at most 4 steps a block" in logged[-1]


def test_the_log_says_what_is_unusual() -> None:
    plain = DecodeParams(
        policy="confidence", threshold=0.9, max_steps=8, block_length=8, sub_block_length=8
    )
    start = "blocks of 8, policy confidence, threshold 0.9, at most 8 steps a block"
    assert serving._summary(plain) == start
    changes: dict[str, Any] = {"sub_block_length": 4, "edit_threshold": 0.5, "kv_cache": "dual"}
    unusual = serving._summary(replace(plain, **changes, guidance_scale=2))
    assert unusual == (
        f"{start}, sub-blocks of 4, edits above 0.5, guidance 2, approximate kv_cache dual"
    )


def test_options_of_the_server_reach_the_plan(make: MakeConfig) -> None:
    config = make(
        additional_config={"diffusion": {"policy": "entropy", "threshold": 0.2, "max_steps": 3}}
    )
    defaults = serving.plan_of(config.model_config).defaults
    assert (defaults.policy, defaults.threshold, defaults.max_steps) == ("entropy", 0.2, 3)


def test_the_canvas_length_of_the_diffusion_config(make: MakeConfig) -> None:
    config = make(diffusion_config={"canvas_length": 8, "max_denoising_steps": 2})
    defaults = serving.plan_of(config.model_config).defaults
    assert (defaults.block_length, defaults.max_steps) == (8, 2)
    assert config.cache_config.block_size is None or config.cache_config.block_size % 8 == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            {"additional_config": {"diffusion": {"tau": 0.5}}},
            "tau=0.5 is not valid: this field is not known; known are policy, threshold",
        ),
        (
            {"additional_config": {"diffusion": {"threshold": 2}}},
            "threshold=2.0 is not valid: the policy 'confidence' takes a threshold from 0.0 to 1.0",
        ),
        (
            {"additional_config": {"diffusion": {"threshold": "high"}}},
            "threshold='high' is not valid: it must be a finite number",
        ),
        (
            {"additional_config": {"diffusion": {"policy": "greedy"}}},
            "policy='greedy' is not valid: it must be one of confidence, entropy",
        ),
        (
            {"additional_config": {"diffusion": {"max_steps": 0}}},
            "max_steps=0 is not valid: it must be an integer",
        ),
        (
            {"additional_config": {"diffusion": ["threshold", 0.5]}},
            "additional_config.diffusion=['threshold', 0.5] is not valid: it must be an object",
        ),
        (
            {"diffusion_config": {"canvas_length": 3}},
            "canvas_length=3 is not valid: SDAR and TraDo (dense) has block lengths from 4 to 64",
        ),
        (
            {"diffusion_config": {"canvas_length": 128}},
            "canvas_length=128 is not valid: SDAR and TraDo (dense) has block lengths from 4 to 64",
        ),
        (
            {
                "diffusion_config": {"canvas_length": 8},
                "additional_config": {"diffusion": {"block_length": 4}},
            },
            "block_length=4 is not valid: --diffusion-config says canvas_length 8",
        ),
        (
            {"block_size": 18},
            "--block-size 18 must be a multiple of the diffusion block length 4; take 36 or leave",
        ),
        (
            {"max_num_batched_tokens": 7, "max_num_seqs": 4, "max_model_len": 4},
            "--max-num-batched-tokens 7 is too small: a finished block and the next canvas are "
            "computed together, so at least 8 is needed",
        ),
        ({"max_model_len": 3}, "--max-model-len 3 is shorter than one diffusion block of 4"),
        (
            {"enable_batch_sharded_sampling": True},
            "--enable-batch-sharded-sampling does not apply to diffusion models, whose ranks all "
            "denoise the whole batch; leave it out",
        ),
        (
            {"logits_processors": ["a.module:Processor"]},
            "--logits-processors expect one token at a time and cannot be applied to a canvas",
        ),
        (
            {"scheduler_cls": "a.module.OtherScheduler"},
            "--scheduler-cls a.module.OtherScheduler cannot schedule diffusion blocks",
        ),
        (
            {
                "speculative_config": {
                    "method": "ngram",
                    "num_speculative_tokens": 2,
                    "prompt_lookup_max": 2,
                }
            },
            "--speculative-config does not apply to diffusion models; leave it out",
        ),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_refused(make: MakeConfig, args: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the words follow)
        make(**args)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"mask_token_id": None},
            "config.json of this SDARForCausalLM has no mask_token_id, without which nothing can "
            "be denoised; add the id",
        ),
        ({"mask_token_id": 512}, "mask_token_id=512 is outside of the vocabulary of 512"),
        ({"block_size": 3}, "canvas_length=3 is not valid"),
    ],
    ids=str,
)
def test_a_checkpoint_that_cannot_be_decoded(
    make: MakeConfig, folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the words follow)
        make(changed(folder, tmp_path, **changes))
    assert words in str(caught.value)


def test_the_command_line_ends_with_the_reason(folder: Path, tmp_path: Path) -> None:
    options = json.dumps({"diffusion": {"tau": 0.5}})
    args = ("--skip-tokenizer-init", "--additional-config", options)
    process = ServerProcess(folder, tmp_path / "log", *args, is_forked=False)
    try:
        assert process.process.wait(240) != 0
    finally:
        process.stop()
    assert "tau=0.5 is not valid: this field is not known; known are policy" in process.log_tail()


def test_the_shipped_generation_config_is_read(
    make: MakeConfig, folder: Path, tmp_path: Path
) -> None:
    model = changed(folder, tmp_path)
    shipped = tmp_path / "generation_config.json"
    shipped.write_text(json.dumps({"diffusion_policy": "margin", "diffusion_threshold": 0.25}))
    defaults = serving.plan_of(make(model).model_config).defaults
    assert (defaults.policy, defaults.threshold) == ("margin", 0.25)
    shipped.write_text(json.dumps({"diffusion_treshold": 0.25}))
    with pytest.raises(ValueError, match=r"diffusion_treshold=0.25 is not valid.*not known"):
        make(model)


def test_max_model_len_is_rounded_with_a_line(make: MakeConfig, logged: list[str]) -> None:
    config = make(max_model_len=510)
    assert config.model_config.max_model_len == 508
    assert "--max-model-len is 508 instead of 510: the last diffusion block (of 4) has to fit." in (
        logged
    )


def test_kv_pages_are_aligned_with_a_line(make: MakeConfig, logged: list[str]) -> None:
    config = make(diffusion_config={"canvas_length": 24})
    assert config.cache_config.block_size % 24 == 0
    assert any("each page holds whole diffusion blocks of 24" in line for line in logged)
