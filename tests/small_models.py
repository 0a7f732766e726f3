"""Model files for tests, made from the embedded one."""

from pathlib import Path

import gguf


def without_layers(source: Path, target: Path, dropped: set[int]) -> Path:
    """Write a copy of a llama GGUF with some layers left out: a draft model that is often right."""
    reader = gguf.GGUFReader(source)
    num_layers = int(reader.fields["llama.block_count"].contents())
    number = {old: new for new, old in enumerate(layer for layer in range(num_layers) if layer not in dropped)}
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = len(number) if field.name == "llama.block_count" else field.contents()
        is_list = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(field.name, value, field.types[0], sub_type=field.types[-1] if is_list else None)
    for tensor in reader.tensors:
        name = tensor.name
        if name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            if int(layer) in dropped:
                continue
            name = f"blk.{number[int(layer)]}.{rest}"
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
