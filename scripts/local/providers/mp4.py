"""MP4 files from nothing: H.264 baseline, each frame one colour, so that no encoder is needed.

A frame's first macroblock holds its colour as raw samples; every other one is predicted from its
neighbours, with nothing added. ITU-T H.264 (7.3 syntax, 9.1 Exp-Golomb, 9.2.1 coeff_token) and ISO/IEC
14496-12, -15 (boxes).
"""

import hashlib
import re
import struct
from functools import lru_cache

FRAMES_A_SECOND = 2


class _Bits:
    """A string of 0 and 1."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, bits: int, value: int) -> "_Bits":
        self.text += f"{value:0{bits}b}"
        return self

    def ue(self, *values: int) -> "_Bits":
        """Add Exp-Golomb codes; that of signed 0 is the same."""
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code
        return self

    def aligned(self) -> bytes:
        padded = self.text + "0" * (-len(self.text) % 8)
        return int(padded, 2).to_bytes(len(padded) // 8, "big")

    def ended(self) -> bytes:
        """With the stop bit (rbsp_trailing_bits)."""
        self.text += "1"
        return self.aligned()


def _escaped(data: bytes) -> bytes:
    """Emulation prevention: no start code inside."""
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", data)


@lru_cache(maxsize=32)
def _parameter_sets(width: int, height: int) -> tuple[bytes, bytes]:
    across, down = -(-width // 16), -(-height // 16)
    cut_right, cut_bottom = (across * 16 - width) // 2, (down * 16 - height) // 2
    sps = _Bits().u(8, 66).u(8, 0b1100_0000).u(8, 40)  # constrained baseline, level 4.0
    sps.ue(0, 0, 2, 0).u(1, 0)  # id, frame_num bits - 4, picture order type, reference frames; no gaps
    sps.ue(across - 1, down - 1).u(1, 1).u(1, 1)  # size; whole frames; direct 8x8
    sps.u(1, int(bool(cut_right or cut_bottom)))
    if cut_right or cut_bottom:
        sps.ue(0, cut_right, 0, cut_bottom)
    sps.u(1, 0)  # no VUI
    pps = _Bits().ue(0, 0).u(1, 0).u(1, 0).ue(0, 0, 0).u(1, 0).u(2, 0).ue(0, 0, 0)
    pps.u(1, 1).u(1, 0).u(1, 0)  # deblocking control is in the slice header
    return b"\x67" + _escaped(sps.ended()), b"\x68" + _escaped(pps.ended())


@lru_cache(maxsize=32)
def _predicted(width: int, height: int) -> bytes:
    """All macroblocks but the first: I_16x16, DC prediction, nothing coded."""
    across, down = -(-width // 16), -(-height // 16)
    # mb_type 3, intra_chroma_pred_mode 0, mb_qp_delta 0, then coeff_token for no coefficients, whose code
    # depends on how many the left and upper neighbours have; raw samples count as 16.
    plain, beside_raw = "00100" + "1" + "1" + "1", "00100" + "1" + "1" + "000011"
    bits = _Bits()
    bits.text = beside_raw + plain * (across - 2) + beside_raw + plain * (across * (down - 1) - 1)
    return _escaped(bits.ended())


def _frame(width: int, height: int, colour: bytes, number: int) -> bytes:
    """One IDR picture, with its length before it."""
    head = _Bits().ue(0, 7, 0).u(4, 0).ue(number % 2).u(2, 0).ue(0, 1)  # slice header; deblocking off
    head.ue(25)  # the first macroblock: I_PCM
    y, cb, cr = (64 + sample % 128 for sample in colour)
    raw = bytes([y]) * 256 + bytes([cb]) * 64 + bytes([cr]) * 64
    unit = b"\x65" + _escaped(head.aligned()) + raw + _predicted(width, height)
    return struct.pack(">I", len(unit)) + unit


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, *parts: bytes, version_flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version_flags), *parts)


MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def mp4(width: int, height: int, seconds: int, seed: str) -> bytes:
    """A video of that many pixels and seconds. Its colours come from the seed and change twice per second."""
    count = seconds * FRAMES_A_SECOND
    colours = [hashlib.sha256(f"{seed} {n}".encode()).digest()[:3] for n in range(count)]
    frames = [_frame(width, height, colour, n) for n, colour in enumerate(colours)]
    sps, pps = _parameter_sets(width, height)
    avcc = (
        bytes([1, *sps[1:4], 0xFF, 0xE1]) + struct.pack(">H", len(sps)) + sps
        + b"\x01" + struct.pack(">H", len(pps)) + pps
    )  # fmt: skip
    sample = _box(
        b"avc1", bytes(6), struct.pack(">H", 1), bytes(16),
        struct.pack(">HHIII", width, height, 72 << 16, 72 << 16, 0),
        struct.pack(">H", 1), bytes(32), struct.pack(">Hh", 24, -1), _box(b"avcC", avcc),
    )  # fmt: skip
    ftyp = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2avc1mp41")

    def moov(offset: int) -> bytes:
        tables = _box(
            b"stbl",
            _full(b"stsd", struct.pack(">I", 1), sample),
            _full(b"stts", struct.pack(">III", 1, count, 1)),
            _full(b"stsc", struct.pack(">IIII", 1, 1, count, 1)),
            _full(b"stsz", struct.pack(">II", 0, count), *(struct.pack(">I", len(f)) for f in frames)),
            _full(b"stco", struct.pack(">II", 1, offset)),
        )
        media = _box(
            b"mdia",
            _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, FRAMES_A_SECOND, count, 0x55C4, 0)),  # language und
            _full(b"hdlr", bytes(4), b"vide", bytes(12), b"video\0"),
            _box(
                b"minf",
                _full(b"vmhd", bytes(8), version_flags=1),
                _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", version_flags=1))),
                tables,
            ),
        )
        track = _box(
            b"trak",
            _full(
                b"tkhd", struct.pack(">IIIII", 0, 0, 1, 0, seconds * 1000), bytes(16), MATRIX,
                struct.pack(">II", width << 16, height << 16), version_flags=3,
            ),
            media,
        )  # fmt: skip
        header = _full(
            b"mvhd", struct.pack(">IIII", 0, 0, 1000, seconds * 1000), struct.pack(">IH", 0x10000, 0x100),
            bytes(10), MATRIX, bytes(24), struct.pack(">I", 2),
        )  # fmt: skip
        return _box(b"moov", header, track)

    before = ftyp + moov(len(ftyp) + len(moov(0)) + 8)
    return before + _box(b"mdat", *frames)
