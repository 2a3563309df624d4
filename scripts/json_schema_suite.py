"""Writes tests/structured/suite/draft2020-12.json: the official JSON Schema test suite, as data.

    python -m scripts.json_schema_suite

The suite travels inside the source distribution of the package ``jsonschema``, which pip fetches
from whatever index it is configured with, into build/json-schema-suite. The tests read the file
that this writes, and need no network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "json-schema-suite"
TARGET = ROOT / "tests" / "structured" / "suite" / "draft2020-12.json"
PACKAGE = "jsonschema==4.26.0"
DRAFT = "json/tests/draft2020-12/"
LICENSE = "json/LICENSE"
MAX_BYTES = 400_000


def fetch() -> Path:
    """The source distribution, downloaded once."""
    WORK.mkdir(parents=True, exist_ok=True)
    name = PACKAGE.replace("==", "-") + ".tar.gz"
    if not (WORK / name).exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", "jsonschema", "--dest", str(WORK), PACKAGE]
        subprocess.run(command, check=True)
    return WORK / name


def collect(archive: Path) -> dict[str, Any]:
    """License and test groups, by the file that they come from."""
    files: dict[str, Any] = {}
    license_text = ""
    with tarfile.open(archive) as members:
        for member in members:
            inner = member.name.partition("/")[2]
            reader = members.extractfile(member) if member.isfile() else None
            if reader is None:
                continue
            if inner == LICENSE:
                license_text = reader.read().decode()
            elif inner.startswith(DRAFT) and inner.endswith(".json"):
                name = inner.removeprefix(DRAFT).removesuffix(".json")
                files[name] = [short(group) for group in json.loads(reader.read())]
    return {"license": license_text, "source": PACKAGE, "files": dict(sorted(files.items()))}


def short(group: dict[str, Any]) -> dict[str, Any]:
    """A group of tests without their descriptions; each instance stands with its verdict."""
    tests = [[test["data"], test["valid"]] for test in group["tests"]]
    return {"description": group["description"], "schema": group["schema"], "tests": tests}


def main() -> None:
    data = collect(fetch())
    # One group a line, so that a change of the suite can be read as one.
    lines = [
        f"{json.dumps(name)}: [\n"
        + ",\n".join(json.dumps(group, separators=(",", ":")) for group in groups)
        + "\n]"
        for name, groups in data["files"].items()
    ]
    text = (
        f'{{"license": {json.dumps(data["license"])},\n"source": {json.dumps(data["source"])},\n'
        f'"files": {{\n{",".join(lines)}\n}}}}\n'
    )
    assert json.loads(text) == data
    size = len(text.encode())
    if size > MAX_BYTES:
        raise SystemExit(f"{TARGET.name} would have {size} bytes, more than {MAX_BYTES}")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    num_schemas = sum(len(groups) for groups in data["files"].values())
    print(f"{TARGET.relative_to(ROOT)}: {num_schemas} schemas, {size} bytes")


if __name__ == "__main__":
    main()
