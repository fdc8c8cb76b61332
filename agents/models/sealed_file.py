"""A `.safetensors` file whose metadata says what its tensors are, under one checksum. No code in it runs.

Metadata, key `glucast`, JSON: what a kind of network says of itself, with `format` and

    network    the kind: gluformer (also where nothing is said), mlp
    checksum   hex SHA-256 over all the rest and every tensor
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.models.checkpoint_file import read_bounded
from schemas.errors import CheckpointError

FORMAT = 1
DEFAULT_NETWORK = "gluformer"

_KEY = "glucast"
_NONE: Mapping[str, type[np.signedinteger[Any]]] = MappingProxyType({})

Array = NDArray[np.float32]
T = TypeVar("T")
Assemble = Callable[[dict[str, Any], dict[str, NDArray[Any]], str], T]
"""(document, tensors, SHA-256 of the file) -> what is in it; any ValueError says what is wrong with it."""


def sealed(document: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The file's bytes."""
    from safetensors.numpy import save

    whole = {"format": FORMAT, **document}
    whole["checksum"] = _checksum(whole, tensors)
    raw: bytes = save(dict(tensors), metadata={_KEY: json.dumps(whole, sort_keys=True)})
    return raw


def write_whole(path: Path, raw: bytes) -> str:
    """Writes the file in one step and returns its SHA-256."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(raw)
    part.replace(path)
    return hashlib.sha256(raw).hexdigest()


def declared_network(path: Path) -> str:
    """The kind of network that a `.safetensors` file holds. CheckpointError where it is none of ours."""
    raw = read_bounded(path)
    try:
        return str(json.loads(_metadata(raw)[_KEY]).get("network", DEFAULT_NETWORK))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a valid checkpoint: {error}") from error


def opened(
    raw: bytes, name: str, network: str, assemble: Assemble[T], whole: Mapping[str, type[np.signedinteger[Any]]] = _NONE
) -> T:
    """What `assemble` makes of a file's content, once its checksum, format and kind are right; else CheckpointError.

    `whole`: the tensors of whole numbers and what they are; all others are float32 or float16, and come as float32.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        metadata = _metadata(raw)
        tensors: dict[str, NDArray[Any]] = load(raw)
        document = json.loads(metadata[_KEY])
        if document.get("format") != FORMAT:
            raise CheckpointError(
                f"{name} has checkpoint format {document.get('format')!r}; this version reads {FORMAT}"
            )
        checksum = document.pop("checksum", None)
        if checksum != _checksum(document, tensors):
            raise CheckpointError(f"{name} is damaged or was changed: its checksum does not match its content")
        declared = document.get("network", DEFAULT_NETWORK)
        if declared != network:
            raise CheckpointError(f"{name} holds a network of kind {declared!r}, not {network!r}")
        return assemble(document, _numbers(tensors, whole), hashlib.sha256(raw).hexdigest())
    except SafetensorError as error:
        raise CheckpointError(f"{name} is truncated or not a .safetensors file: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{name} is not a valid checkpoint: {error}") from error


def _numbers(
    tensors: Mapping[str, NDArray[Any]], whole: Mapping[str, type[np.signedinteger[Any]]]
) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, value in tensors.items():
        if (kind := whole.get(name)) is not None:
            if value.dtype != kind:
                raise ValueError(f"tensor {name} must be {np.dtype(kind).name}")
            found[name] = np.ascontiguousarray(value)
            continue
        found[name] = np.ascontiguousarray(value, dtype=np.float32)
        if value.dtype not in (np.float32, np.float16) or not np.all(np.isfinite(found[name])):
            raise ValueError(f"tensor {name} must be float32 or float16 and finite")
    return found


def _metadata(raw: bytes) -> dict[str, str]:
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or size > len(raw) - 8:
        raise ValueError("it is truncated or not a .safetensors file")
    header = json.loads(raw[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if _KEY not in metadata:
        raise ValueError(f"its metadata has no entry {_KEY!r}; only files written by glucast carry one")
    return dict(metadata)


def _checksum(document: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(b"glucast-checkpoint-v1\n")
    digest.update(json.dumps(document, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\n{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
