"""PNG files from nothing but zlib."""

import hashlib
import struct
import zlib
from functools import lru_cache

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TILE = 32  # pixels; even, as two pixels share a byte


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _header(width: int, height: int) -> bytes:
    """Four bits a pixel, with a palette."""
    return SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0))


@lru_cache(maxsize=64)
def _pixels(width: int, height: int) -> bytes:
    """The IDAT chunk: diagonal stripes in 16 colours. Images of a size share it; their colours differ."""
    tiles = [bytes([(n % 16) * 17]) * (TILE // 2) for n in range(width // TILE + 17)]
    length = (width + 1) // 2
    rows = [b"\0" + b"".join(tiles[n:])[:length] for n in range(16)]
    return _chunk(b"IDAT", zlib.compress(b"".join(rows[y // TILE % 16] for y in range(height)), 9))


def png(width: int, height: int, seed: str) -> bytes:
    """An image of that many pixels, whose colours come from the seed."""
    palette = hashlib.sha384(seed.encode()).digest()  # 16 colours of 3 bytes
    return _header(width, height) + _chunk(b"PLTE", palette) + _pixels(width, height) + _chunk(b"IEND", b"")


def bomb(side: int = 50_000) -> bytes:
    """A file of some bytes that says it has side x side pixels."""
    idat = _chunk(b"IDAT", zlib.compress(bytes(1024)))
    return _header(side, side) + _chunk(b"PLTE", bytes(48)) + idat + _chunk(b"IEND", b"")


def is_png(data: bytes) -> bool:
    """Whether the chunks are whole: lengths, checksums, IHDR first, an IDAT, IEND last."""
    if not data.startswith(SIGNATURE):
        return False
    position = len(SIGNATURE)
    kinds: list[bytes] = []
    while position + 12 <= len(data) and kinds[-1:] != [b"IEND"]:
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        kinds.append(kind)
        position = end + 4
    return kinds[:1] == [b"IHDR"] and b"IDAT" in kinds and kinds[-1:] == [b"IEND"]
