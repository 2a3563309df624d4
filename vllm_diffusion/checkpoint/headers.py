"""Names, types and shapes of a checkpoint's tensors, read off its safetensors headers.

The format: 8 bytes of length (little endian), that many bytes of JSON, the data.
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a header says about a tensor."""

    file: str
    dtype: str
    """As the format spells it: ``F32``, ``BF16``, ..."""
    shape: tuple[int, ...]


def has_safetensors(folder: str | Path) -> bool:
    """Whether this is a local folder with safetensors files."""
    path = Path(folder)
    return path.is_dir() and ((path / INDEX).is_file() or any(path.glob("*.safetensors")))


def read_headers(folder: str | Path) -> dict[str, TensorHeader]:
    """All tensors of the checkpoint in ``folder``; no weights are read.

    Raises:
        ValueError: a file that the index names is missing, or is not whole; two files hold the
            same tensor.
    """
    path = Path(folder)
    if (path / INDEX).is_file():
        index = json.loads((path / INDEX).read_text())["weight_map"]
        files = [path / name for name in sorted(set(index.values()))]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(files)} weight files that {path / INDEX} lists "
                f"are missing, first {missing[0]}; download the checkpoint again"
            )
    else:
        files = sorted(path.glob("*.safetensors"))
    found: dict[str, TensorHeader] = {}
    for file in files:
        for name, tensor in _read_file(file).items():
            if name in found:
                # The one that is read last would count, silently.
                raise ValueError(
                    f"{path} has {name} twice, in {found[name].file} and in {file.name}; move the "
                    "file that is not of this checkpoint to another folder"
                )
            found[name] = tensor
    return found


def _read_file(file: Path) -> dict[str, TensorHeader]:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        tensors = {
            name: TensorHeader(file.name, entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
        }
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is not a safetensors file ({error}); download the checkpoint again"
        ) from error
    if end != size:
        raise ValueError(
            f"{file} has {size} bytes where its header says {end}, so it was not copied to the "
            "end; download the checkpoint again"
        )
    return tensors
