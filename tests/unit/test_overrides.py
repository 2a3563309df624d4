"""A network of ours under another name: the advice of the error is followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="the parser is vLLM's")

from transformers import CONFIG_MAPPING
from vllm.engine.arg_utils import EngineArgs

from tests.checkpoints import stable_diffcoder
from tests.parity.families import FAMILIES, Family
from vllm_diffusion import plugin
from vllm_diffusion.family import registry
from vllm_diffusion.family import rows as families

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.architecture)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    plugin.register()


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM has transformers remember which class has read a ``model_type`` of a file."""
    known = CONFIG_MAPPING._extra_content  # type: ignore[attr-defined]
    monkeypatch.setattr(CONFIG_MAPPING, "_extra_content", dict(known))


def config_of(folder: Path, family: Family, **args: Any) -> Any:
    """The config that vLLM would serve, once it is checked against the weights."""
    settings = family.engine_options | {"skip_tokenizer_init": True} | args
    return EngineArgs(model=str(folder), **settings).create_model_config().hf_config


def renamed(folder: Path, model_type: str | None) -> None:
    """As if somebody had trained such a network and given it a name."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"architectures": ["NewDiffusionLM"]}
    config |= {"model_type": model_type} if model_type else {}
    config.pop("auto_map", None)
    path.write_text(json.dumps(config))


def test_every_architecture_has_a_type() -> None:
    assert registry.MODEL_TYPES.keys() == families.FAMILIES.keys()
    assert set(registry.MODEL_TYPES.values()) == registry.CONFIG_SHIMS.keys()


@each_family
def test_types_are_the_released_ones(family: Family) -> None:
    if family.module is not stable_diffcoder:
        assert registry.MODEL_TYPES[family.architecture] == family.module.CONFIG["model_type"]


@each_family
@pytest.mark.parametrize(
    ("is_type_new", "says_type"),
    [(True, False), (True, True), (False, False)],
    ids=["new type", "new type and said", "released type"],
)
def test_a_known_network_under_another_name(
    family: Family, is_type_new: bool, says_type: bool, tmp_path: Path
) -> None:
    folder = family.module.write(tmp_path, tokenizer=True, **family.checkpoint)
    released = config_of(folder, family)
    renamed(folder, "new_diffusion" if is_type_new else None)
    overrides: dict[str, Any] = {"architectures": [family.architecture]}
    if says_type:
        overrides["model_type"] = registry.MODEL_TYPES[family.architecture]
    made = config_of(folder, family, hf_overrides=overrides)
    if family.module is not stable_diffcoder:
        assert type(made) is type(released)
    different = {"model_type", "auto_map"} if family.module is stable_diffcoder else {"auto_map"}
    assert {name: value for name, value in made.to_dict().items() if name not in different} == {
        name: value for name, value in released.to_dict().items() if name not in different
    }
