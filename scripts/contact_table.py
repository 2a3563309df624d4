"""Write the tables of contacts into docs/compatibility.md, from ``vllm_diffusion/compat``.

    python -m scripts.contact_table          # or `make docs`

Needs no vLLM. A unit test fails when the file is out of date.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.serving.markdown import replace_section
from vllm_diffusion.compat import CONTACTS
from vllm_diffusion.compat.contact import Contact, Kind

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compatibility.md"
SECTIONS: dict[str, Kind] = {
    "patches": "patch",
    "overrides": "override",
    "registries": "registry",
    "inside": "inside",
}


def table(contacts: Iterable[Contact]) -> str:
    """One row a contact."""
    header = "| name | what for | in vLLM | acts | when it moves | can go when |"
    return "\n".join([header, "|---|---|---|---|---|---|", *map(_row, contacts)])


def _row(contact: Contact) -> str:
    targets = "<br>".join(f"`{target}`" for target in contact.targets)
    row = (
        f"| `{contact.name}` | {contact.what} Without it: {contact.why}. | {targets} | "
        f"{contact.acts} | {contact.breaks}. | {contact.remove}. |"
    )
    return row.replace("``", "`")


def write(path: Path = PAGE) -> None:
    """Replace the sections; other text of the file stays."""
    for name, kind in SECTIONS.items():
        replace_section(path, name, table(c for c in CONTACTS if c.kind == kind))


if __name__ == "__main__":
    write()
