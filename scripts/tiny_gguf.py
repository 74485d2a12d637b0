"""A model of half a megabyte for llama.cpp: a llama of two layers with random weights and one token per character.

The format is GGUF 3: a header, keys and values, where each tensor lies, then the tensors.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_WIDTH, _LAYERS, _HEADS, _INNER, _CONTEXT = 64, 2, 4, 128, 65536
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?\N{LOWER ONE EIGHTH BLOCK}"
_SILENT = 3 + 256


def write(path: Path, seed: int) -> None:
    """Write a model that no other seed gives; it loads, and answers with random letters."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_LETTERS]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * len(_LETTERS)]
    facts = [
        _fact("general.architecture", _STRING, _text("llama")),
        _fact("general.name", _STRING, _text(f"tiny-{seed}")),
        _fact("llama.context_length", _UINT32, struct.pack("<I", _CONTEXT)),
        _fact("llama.embedding_length", _UINT32, struct.pack("<I", _WIDTH)),
        _fact("llama.block_count", _UINT32, struct.pack("<I", _LAYERS)),
        _fact("llama.feed_forward_length", _UINT32, struct.pack("<I", _INNER)),
        _fact("llama.attention.head_count", _UINT32, struct.pack("<I", _HEADS)),
        _fact("llama.attention.layer_norm_rms_epsilon", _FLOAT32, struct.pack("<f", 1e-5)),
        _fact("llama.rope.dimension_count", _UINT32, struct.pack("<I", _WIDTH // _HEADS)),
        _fact("tokenizer.ggml.model", _STRING, _text("llama")),
        _fact("tokenizer.ggml.tokens", _ARRAY, _list(_STRING, [_text(token) for token in tokens])),
        _fact("tokenizer.ggml.scores", _ARRAY, _list(_FLOAT32, [struct.pack("<f", 0.0)] * len(tokens))),
        _fact("tokenizer.ggml.token_type", _ARRAY, _list(_INT32, [struct.pack("<i", kind) for kind in kinds])),
        _fact("tokenizer.ggml.bos_token_id", _UINT32, struct.pack("<I", 1)),
        _fact("tokenizer.ggml.eos_token_id", _UINT32, struct.pack("<I", 2)),
        _fact("tokenizer.ggml.unknown_token_id", _UINT32, struct.pack("<I", 0)),
    ]
    places, weights, offset = [], [], 0
    for name, shape, values in _tensors(len(tokens), random.Random(seed)):
        data = array("f", values).tobytes()
        # The fastest dimension comes first; the type 0 is 32-bit floats.
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        places.append(_text(name) + sizes + struct.pack("<IQ", 0, offset))
        weights.append(data + bytes(-len(data) % _ALIGNMENT))
        offset += len(weights[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(places), len(facts)) + b"".join([*facts, *places])
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + b"".join(weights))


def _tensors(words: int, chance: random.Random) -> Iterator[tuple[str, tuple[int, ...], list[float]]]:
    def matrix(name: str, width: int, height: int) -> tuple[str, tuple[int, ...], list[float]]:
        return f"{name}.weight", (width, height), [chance.gauss(0.0, 0.2) for _ in range(width * height)]

    def ones(name: str) -> tuple[str, tuple[int, ...], list[float]]:
        return f"{name}.weight", (_WIDTH,), [1.0] * _WIDTH

    yield matrix("token_embd", _WIDTH, words)
    yield ones("output_norm")
    # Only letters get a say: half a UTF-8 character at the end of an answer is an error of the server.
    loud = [chance.gauss(0.0, 1.0) for _ in range(_WIDTH * (words - _SILENT))]
    yield "output.weight", (_WIDTH, words), [0.0] * (_WIDTH * _SILENT) + loud
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        yield ones(f"{block}.attn_norm")
        yield ones(f"{block}.ffn_norm")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield matrix(f"{block}.{part}", _WIDTH, _WIDTH)
        yield matrix(f"{block}.ffn_gate", _WIDTH, _INNER)
        yield matrix(f"{block}.ffn_up", _WIDTH, _INNER)
        yield matrix(f"{block}.ffn_down", _INNER, _WIDTH)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _fact(name: str, kind: int, value: bytes) -> bytes:
    return _text(name) + struct.pack("<I", kind) + value


def _list(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)
