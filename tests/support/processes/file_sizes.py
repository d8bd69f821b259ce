"""The safetensors format written out tensor by tensor."""

from collections.abc import Mapping


def file_size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Bytes of a file with these tensors, all in F32."""
    header, offset = '{"__metadata__":{"format":"pt"}', 0
    for name, shape in sorted(shapes.items()):
        size = 4
        for length in shape:
            size *= length
        lengths = ",".join(map(str, shape))
        header += f',"{name}":{{"dtype":"F32","shape":[{lengths}],"data_offsets":[{offset},{offset + size}]}}'
        offset += size
    header += "}"
    return 8 + (len(header) + 7) // 8 * 8 + offset
