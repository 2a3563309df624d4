"""``vllm-diffusion doctor``: every row, the marks and the exit status."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import pytest

pytest.importorskip("vllm", reason="the report is about vLLM's seams")

from vllm.platforms import current_platform

from vllm_diffusion import __version__, cli, compat, doctor
from vllm_diffusion.family.registry import MODEL_CLASSES, SERVED, WITHOUT_TRITON
from vllm_diffusion.family.rows import FAMILIES
from vllm_diffusion.kernels import dispatch


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point is there and nothing keeps it out."""
    assert current_platform  # vLLM finds it by entry points, once: before they are replaced
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    entries = [type("Entry", (), {"name": doctor.ENTRY_POINT})()]
    monkeypatch.setattr(doctor.metadata, "entry_points", lambda group: entries)


def by_name() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.findings()}


@pytest.mark.usefixtures("installed")
def test_a_sound_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run() == 0
    printed = capsys.readouterr().out
    for name in ("python", "torch", "vllm", *compat.ACTIVE, *SERVED, "row_stats"):
        assert name in printed
    assert "broken" not in printed


def test_every_registered_architecture_is_served_and_listed() -> None:
    assert SERVED.keys() == FAMILIES.keys() | WITHOUT_TRITON.keys()
    assert SERVED.keys() == MODEL_CLASSES.keys() | WITHOUT_TRITON.keys()
    listed = [row.name for row in doctor.findings() if row.topic == "architecture"]
    assert listed == list(SERVED)


@pytest.mark.usefixtures("installed")
def test_a_pipe_gets_a_row_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However narrow the terminal is said to be: what is looked for is found whole."""
    monkeypatch.setenv("COLUMNS", "40")
    doctor.run()
    lines = capsys.readouterr().out.splitlines()
    rows = [tuple(line.split("\t")) for line in lines]
    assert rows == [
        (row.topic, row.name, " ".join(row.value.split()), row.state) for row in doctor.findings()
    ]
    assert [line for line in lines if "\tNemotronLabsDiffusionModel\t" in line]


@pytest.mark.usefixtures("installed")
def test_a_terminal_gets_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    doctor.run()
    printed = capsys.readouterr().out
    assert "vllm-diffusion doctor" in printed and "┃" in printed
    assert all(name in printed for name in SERVED)


@pytest.mark.usefixtures("installed")
def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [asdict(row) for row in doctor.findings()]
    monkeypatch.setenv("VLLM_PLUGINS", "")
    assert cli.main(["doctor", "--json"]) == 1
    assert "broken" in {row["state"] for row in json.loads(capsys.readouterr().out)}


@pytest.mark.usefixtures("installed")
def test_rows_come_in_order() -> None:
    topics = list(dict.fromkeys(finding.topic for finding in doctor.findings()))
    assert topics == ["version", "host", "seam", "patch", "contact", "kernel", "architecture"]


@pytest.mark.usefixtures("installed")
def test_every_contact_is_listed_and_sound() -> None:
    rows = {row.name: row for row in doctor.findings() if row.topic == "contact"}
    assert list(rows) == [contact.name for contact in compat.CONTACTS]
    assert {row.state for row in rows.values()} == {doctor.OK}
    assert all(target in rows[c.name].value for c in compat.CONTACTS for target in c.targets)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("without_triton", "has_triton", "state"),
    [
        (False, False, doctor.BROKEN),
        (False, True, doctor.BROKEN),
        (True, False, doctor.BROKEN),
        (True, True, doctor.OK),
    ],
)
def test_a_contact_that_has_moved_is_broken_where_it_is_touched(
    without_triton: bool, has_triton: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(compat.CONTACTS[0], targets=("vllm.config.gone",), without_triton=without_triton)
    monkeypatch.setattr(compat, "CONTACTS", (gone,))
    monkeypatch.setattr("vllm.triton_utils.HAS_TRITON", has_triton)
    (row,) = (row for row in doctor.findings() if row.topic == "contact")
    assert row.state == state
    assert "vllm.config.gone is not there" in row.value


@pytest.mark.usefixtures("installed")
def test_a_registration_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def register() -> None:
        raise RuntimeError("post_step is not in vLLM 9")

    monkeypatch.setattr("vllm_diffusion.plugin.register", register)
    assert by_name()["registration"] == doctor.Finding(
        "patch", "registration", "RuntimeError: post_step is not in vLLM 9", doctor.BROKEN
    )


@pytest.mark.usefixtures("installed")
def test_a_plugin_kept_out_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "lora_resolver")
    finding = by_name()[doctor.ENTRY_POINT_GROUP]
    assert finding.state == doctor.BROKEN
    assert "VLLM_PLUGINS=lora_resolver keeps it out: add diffusion" in finding.value
    assert doctor.run() == 1
    assert "broken" in capsys.readouterr().out  # in words: a pipe shows no colours


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("allowed", ["diffusion", "lora_resolver,diffusion"])
def test_a_plugin_named_among_others_is_sound(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", allowed)
    assert by_name()[doctor.ENTRY_POINT_GROUP].state == doctor.OK


@pytest.mark.usefixtures("installed")
def test_a_missing_entry_point_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "entry_points", lambda group: [])
    finding = by_name()[doctor.ENTRY_POINT_GROUP]
    assert finding.state == doctor.BROKEN
    assert "pip install" in finding.value


@pytest.mark.usefixtures("installed")
def test_a_slow_kernel_is_marked_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with dispatch.forced("torch"):
        finding = by_name()["row_stats"]
        assert "torch" in finding.value
        assert doctor.run() == 0
    assert (finding.state == doctor.SLOW) == ("slow" in capsys.readouterr().out)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2


@pytest.mark.usefixtures("installed")
def test_doctor_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    assert "SDARForCausalLM" in capsys.readouterr().out
