"""What a GGUF file says before its tensor data, and whether it is whole.

The header is read with the standard library, so that a file that was cut anywhere, or that states
absurd lengths, is told before an engine is started on it: no length is believed beyond the end of
the file.
"""

import mmap
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from speed_bench.errors import ModelError
from speed_bench.models import MODEL_FORMS, existing_file

_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor as the header describes it; the offset counts from `GgufHeader.data_start`."""

    name: str
    num_elements: int
    type: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says before its tensor data; metadata arrays are `array`s or lists of strings."""

    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]
    data_start: int


class _Malformed(Exception):
    """The bytes cannot be a GGUF header."""


class _PastEnd(Exception):
    """The header goes on beyond the end of the file."""


class _Cursor:
    """Reads little-endian values one after the other, never beyond the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, num_bytes: int) -> bytes:
        end = self.at + num_bytes
        if end > len(self.data):
            raise _PastEnd
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return self.take(self.scalar("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise _Malformed(f"value type {kind}")
        return self.elements(self.scalar("I"), self.scalar("Q"))

    def elements(self, kind: int, num: int) -> "array[Any] | list[str]":
        if kind == _STRING:
            return [self.string() for _ in range(num)]
        if kind not in _SCALARS:
            raise _Malformed(f"array of value type {kind}")
        code = _SCALARS[kind].replace("?", "B")
        return array(code, self.take(num * array(code).itemsize))

    def tensor(self) -> GgufTensor:
        name, num_dims = self.string(), self.scalar("I")
        if num_dims > _MAX_DIMS:
            raise _Malformed(f"a tensor of {num_dims} dimensions")
        num_elements = 1
        for _ in range(num_dims):
            num_elements *= self.scalar("Q")
        return GgufTensor(name, num_elements, self.scalar("I"), self.scalar("Q"))


def read_gguf_header(path: Path) -> GgufHeader:
    """Metadata and tensor list of a GGUF file (version 2 or 3, little-endian).

    Raises:
        ModelError: the file is missing, is not GGUF, or ends within its header.
    """
    with existing_file(path).open("rb") as file:
        magic = file.read(4)
        if magic != b"GGUF":
            raise ModelError(f"model file '{path}' is not a GGUF file: it starts with {magic!r}; give {MODEL_FORMS}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read_header(_Cursor(data))
            except _PastEnd:
                raise ModelError(
                    f"model file '{path}' is truncated: its header goes on after {len(data)} bytes; download it again"
                ) from None
            except _Malformed as error:
                raise ModelError(
                    f"model file '{path}' has a GGUF header that cannot be read ({error}); download it again"
                ) from None


def _read_header(cursor: _Cursor) -> GgufHeader:
    cursor.take(4)
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise _Malformed(f"version {version}")
    num_tensors, num_pairs = cursor.scalar("Q"), cursor.scalar("Q")
    metadata = {}
    for _ in range(num_pairs):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("I"))
    tensors = tuple([cursor.tensor() for _ in range(num_tensors)])
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise _Malformed(f"alignment {alignment!r}")
    return GgufHeader(metadata, tensors, -(-cursor.at // alignment) * alignment)


def check_gguf(path: Path) -> None:
    """Raise unless the file is GGUF and holds all the tensor data that its header describes.

    Raises:
        ModelError: the file is missing, is not GGUF, or is truncated, wherever it was cut.
    """
    header = read_gguf_header(path)
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError:
        raise ModelError("checking a model file needs gguf; pip install 'speed-bench[llama-cpp]'") from None
    block_sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    num_bytes = header.data_start if header.tensors else 0
    for tensor in header.tensors:
        # A type newer than the gguf package counts as no bytes: the engine judges it.
        block_elements, block_bytes = block_sizes.get(tensor.type, (1, 0))
        end = header.data_start + tensor.offset + tensor.num_elements * block_bytes // block_elements
        num_bytes = max(num_bytes, end)
    size = path.stat().st_size
    if size < num_bytes:
        raise ModelError(
            f"model file '{path}' is truncated: it has {size} of {num_bytes} bytes; delete it and download it again"
        )
