"""Which partition a key belongs to: a fixed function of its encoded bytes, whatever column holds it.

The hash of a key is xxh3-64, seeded with its type tag, of

- an integer that fits 64 bits: its eight bytes, little-endian, two's complement;
- any other key: its encoded bytes after the tag.

The partition is the hash modulo the number of partitions. It is the same in every process and version;
test vectors guard that. Called on distinct keys only.
"""

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, Final

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from mr.error_text import safe_repr
from mr.errors import BadPartition
from mr.workers.shuffle import key_codec
from mr.workers.shuffle.columns import Column, Kind, key_list
from mr.workers.shuffle.key_codec import decode_key, encode_key

Partitioner = Callable[[Any, int], int]
_Hashes = np.ndarray[Any, np.dtype[np.uint64]]

_INT64: Final = range(-(1 << 63), 1 << 63)


def partition_of(key: Any, partitions: int) -> int:
    """The partition of one key."""
    return hash_encoded(encode_key(key)) % partitions


def hash_encoded(encoded: bytes) -> int:
    """The hash of an encoded key, 64 bits unsigned."""
    if encoded[0] == key_codec.INT and len(encoded) <= 10:
        key = decode_key(encoded)
        if key in _INT64:
            return xxh3_64_intdigest(key.to_bytes(8, "little", signed=True), key_codec.INT)
    return xxh3_64_intdigest(encoded[1:], encoded[0])


def partitions_of(keys: Column, partitions: int, partitioner: Partitioner | None) -> np.ndarray[Any, Any]:
    """The partition of each of these distinct keys, as int64. Raises BadPartition for the user's function."""
    if partitioner is not None:
        return _by_user(keys, partitions, partitioner)
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    return (hashes_of(keys) % np.uint64(partitions)).astype(np.int64)


def hashes_of(keys: Column) -> _Hashes:
    """The hash of each key."""
    kind = keys.kind
    if kind in (Kind.STR, Kind.BYTES):
        seed = key_codec.STR if kind is Kind.STR else key_codec.BYTES
        items = keys.array().cast(pa.binary()).to_pylist()
        return _gather(map(xxh3_64_intdigest, items, repeat(seed)), len(items))
    if kind is Kind.INT:
        return hash_eight(keys.numpy().view(np.uint64), key_codec.INT)
    if kind is Kind.FLOAT:
        return hash_eight(_float_payloads(keys.numpy()), key_codec.FLOAT)
    if kind is Kind.BOOL:
        return _gather(map(hash_encoded, map(encode_key, keys.array().to_pylist())), len(keys))
    return _gather(map(hash_encoded, keys.array().to_pylist()), len(keys))


def _gather(hashes: Iterable[int], count: int) -> _Hashes:
    return np.fromiter(hashes, np.uint64, count)


def _float_payloads(numbers: np.ndarray[Any, Any]) -> _Hashes:
    """`key_codec.float_payload` of normalised floats, each read as a little-endian integer."""
    bits = numbers.view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign).byteswap()


#: Bytes 8 to 16 xor bytes 16 to 24 of xxh3's default secret, and its second multiplier.
_FLIP: Final = 0x1CAD21F72C81017C ^ 0xDB979083E96DD4DE
_PRIME: Final = np.uint64(0x9FB21C651E98DF25)
_MASK: Final = (1 << 64) - 1


def hash_eight(inputs: _Hashes, seed: int) -> _Hashes:
    """xxh3-64 of many inputs of eight bytes each, read as little-endian integers; `seed` below 256."""
    mixed_seed = seed ^ (int.from_bytes(seed.to_bytes(4, "little"), "big") << 32)
    flip = np.uint64((_FLIP - mixed_seed) & _MASK)
    hashes = ((inputs << np.uint64(32)) | (inputs >> np.uint64(32))) ^ flip
    hashes ^= _rotate(hashes, 49) ^ _rotate(hashes, 24)
    hashes *= _PRIME
    hashes ^= (hashes >> np.uint64(35)) + np.uint64(8)
    hashes *= _PRIME
    return hashes ^ (hashes >> np.uint64(28))


def _rotate(numbers: _Hashes, bits: int) -> _Hashes:
    return (numbers << np.uint64(bits)) | (numbers >> np.uint64(64 - bits))


def _by_user(keys: Column, partitions: int, partitioner: Partitioner) -> np.ndarray[Any, Any]:
    chosen = np.empty(len(keys), np.int64)
    for row, key in enumerate(key_list(keys)):
        partition = partitioner(key, partitions)
        if type(partition) is not int:
            partition = partition.item() if isinstance(partition, np.integer) else partition
        if type(partition) is not int or not 0 <= partition < partitions:
            raise BadPartition(
                f"partition_fn({safe_repr(key)}, {partitions}) returned {safe_repr(partition)}; "
                f"return an int from 0 to {partitions - 1}"
            )
        chosen[row] = partition
    return chosen
