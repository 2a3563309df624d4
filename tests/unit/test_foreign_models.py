"""What is not ours is vLLM's business: never refused, and its errors only say more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the parser is vLLM's")

from transformers import CONFIG_MAPPING
from vllm import ModelRegistry
from vllm.engine.arg_utils import EngineArgs
from vllm.transformers_utils import config as vllm_configs

from tests import foreign
from vllm_diffusion import plugin
from vllm_diffusion.compat import registries
from vllm_diffusion.configs import parser
from vllm_diffusion.family import registry

HINT = "A hint of vllm_diffusion: this looks like a diffusion language model"


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin.register()
    known = CONFIG_MAPPING._extra_content  # type: ignore[attr-defined]
    monkeypatch.setattr(CONFIG_MAPPING, "_extra_content", dict(known))
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return foreign.write(tmp_path / "acme")


def model_config(folder: Path, **args: Any) -> Any:
    return EngineArgs(model=str(folder), skip_tokenizer_init=True, **args).create_model_config()


def without_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM reads ``config.json`` as if the package were not installed."""
    parsers = vllm_configs._CONFIG_FORMAT_TO_CONFIG_PARSER
    monkeypatch.setitem(parsers, "hf", vllm_configs.HFConfigParser)


def facts(folder: Path, **args: Any) -> tuple[Any, ...]:
    made = model_config(folder, **args)
    return made.architecture, made.is_diffusion, made.hf_config.to_dict()


def test_the_transformers_backend_serves_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = facts(folder, trust_remote_code=True)
    assert ours[:2] == ("TransformersForCausalLM", False)
    assert parser.diffusion_hints(ours[2]), "it does not look like a diffusion model"
    without_us(monkeypatch)
    assert facts(folder, trust_remote_code=True) == ours


def test_another_plugin_serves_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

    ModelRegistry.register_model(foreign.ARCHITECTURE, Qwen3ForCausalLM)
    ours = facts(folder, trust_remote_code=True)
    assert ours[:2] == (foreign.ARCHITECTURE, False)
    without_us(monkeypatch)
    assert facts(folder, trust_remote_code=True) == ours


def test_another_plugins_parser_stays_in_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Theirs(vllm_configs.HFConfigParser):  # type: ignore[misc]
        def parse(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], Any]:
            fields, config = super().parse(*args, **kwargs)
            config.read_by_theirs = True
            return fields, config

    monkeypatch.setitem(vllm_configs._CONFIG_FORMAT_TO_CONFIG_PARSER, "hf", Theirs)
    registries.register()
    registries.register()
    made = model_config(folder, trust_remote_code=True)
    assert made.hf_config.read_by_theirs
    (chosen,) = {type(vllm_configs.get_config_parser("hf"))}
    assert [cls.__name__ for cls in chosen.__mro__].count("DiffusionAwareParser") == 2


def said(folder: Path, **args: Any) -> str:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        model_config(folder, **args)
    return str(caught.value)


def changed(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "trust_remote_code=True"),
        ({"auto_map": None}, "does not recognize this architecture"),
        (
            {"auto_map": None, "model_type": "qwen3"},
            f"Model architectures ['{foreign.ARCHITECTURE}'] are not supported for now",
        ),
    ],
    ids=["remote code", "transformers", "vLLM"],
)
def test_a_refusal_of_vllms_goes_on_with_our_hint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    changed(folder, **changes)
    text = said(folder)
    assert words in text.partition(HINT)[0]
    hint = text.partition(HINT)[2]
    assert f"({foreign.ARCHITECTURE}" in hint and "mask_token_id)" in hint
    assert "--hf-overrides" in hint
    assert all(f"  {name}: " in hint for name in registry.SERVED)
    assert text.count(HINT) == 1


@pytest.mark.parametrize("model_type", ["acme", "qwen3"])
def test_other_models_keep_vllms_words(folder: Path, model_type: str) -> None:
    plain = {"architectures": ["AcmeForCausalLM"], "mask_token_id": None, "auto_map": None}
    assert HINT not in said(changed(folder, **plain, model_type=model_type))


def test_a_failure_of_a_served_architecture_has_no_hint(folder: Path) -> None:
    error = ValueError("failed to be inspected")
    parser.add_hint(error, {"architectures": ["DreamModel"], "mask_token_id": 7})
    assert str(error) == "failed to be inspected"


def test_a_config_that_cannot_be_read_fails_as_vllm_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": [')
    read = vllm_configs.get_config_parser("hf").parse
    with pytest.raises((OSError, ValueError)) as caught:
        read(tmp_path, False)
    without_us(monkeypatch)
    with pytest.raises(type(caught.value)) as plain:
        vllm_configs.get_config_parser("hf").parse(tmp_path, False)
    assert str(caught.value) == str(plain.value)


@pytest.mark.parametrize("odd", [5, "DreamModel", [3, None], {"a": 1}, None])
def test_odd_values_are_no_hints(odd: Any) -> None:
    assert parser.diffusion_hints({"architectures": odd, "auto_map": odd}) == []
