"""What a file is, by its own bytes: type, size in pixels, and whether it is whole.

Nothing is decoded here, so a small file that would unpack to gigabytes costs nothing.
"""

import struct
from dataclasses import dataclass

MEGABYTE = 1024 * 1024
IMAGE_BYTES = 32 * MEGABYTE  # as credits.inputs_refusal has it
VIDEO_BYTES = 95 * MEGABYTE  # what the bucket takes
TEXT_BYTES = MEGABYTE
INLINE_BYTES = 256 * 1024  # of a text that stands in the answer itself
PIXELS = 64_000_000

EXTENSIONS = {
    "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif",
    "video/mp4": "mp4", "video/webm": "webm", "text/plain": "txt",
}  # fmt: skip
# What providers take from users, as credits.inputs_refusal has it.
INPUTS = ("image/png", "image/jpeg", "image/webp")


class BadMediaError(ValueError):
    """Not a file that we take; the message is one sentence for the caller."""


@dataclass(frozen=True)
class Media:
    """A file that passed check(). Width and height are pixels of images, None for the others."""

    data: bytes
    mime_type: str
    width: int | None = None
    height: int | None = None

    @property
    def extension(self) -> str:
        """Without the dot."""
        return EXTENSIONS[self.mime_type]

    @property
    def inline(self) -> str | None:
        """A text that is short enough to stand in the answer; None for all else."""
        if self.mime_type != "text/plain" or len(self.data) > INLINE_BYTES:
            return None
        return self.data.decode()


def check(data: bytes) -> Media:
    """The image or video in `data`. Raises BadMediaError when it is none, is cut off, or is too large."""
    for mime_type, read in _READERS.items():
        try:
            size = read(data)
        except (struct.error, IndexError, ValueError):
            raise BadMediaError("The file is damaged or cut off.") from None
        if size is None:
            continue
        width, height = size
        if mime_type.startswith("video/"):
            if len(data) > VIDEO_BYTES:
                raise BadMediaError(f"The video is larger than {VIDEO_BYTES} bytes.")
            return Media(data, mime_type)
        if len(data) > IMAGE_BYTES:
            raise BadMediaError(f"The image is larger than {IMAGE_BYTES} bytes.")
        if not (width > 0 and height > 0 and width * height <= PIXELS):
            raise BadMediaError(f"The image must have from 1 to {PIXELS} pixels.")
        return Media(data, mime_type, width, height)
    raise BadMediaError("The file is neither an image (PNG, JPEG, WebP, GIF) nor a video (MP4, WebM).")


def check_input(data: bytes) -> Media:
    """A user's image. Raises BadMediaError as check() does, and for what providers do not take."""
    media = check(data)
    if media.mime_type not in INPUTS:
        raise BadMediaError("Send a PNG, JPEG or WebP image.")
    return media


def text(value: str) -> Media:
    """A text as an output. Raises BadMediaError when there is nothing in it, or too much."""
    data = value.encode("utf-8", errors="replace")
    if not value.strip() or len(data) > TEXT_BYTES:
        raise BadMediaError("The text is empty or too long.")
    return Media(data, "text/plain")


# Each reader returns (width, height) when the file is of its type, (0, 0) for video, None for another type.
# It raises ValueError, IndexError or struct.error when the file is damaged.


def _png(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if length != 13 or kind != b"IHDR" or b"IDAT" not in data or not data.endswith(b"IEND\xaeB`\x82"):
        raise ValueError("not a whole PNG")
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    if b"\xff\xd9" not in data[-1024:]:
        raise ValueError("no end of image")
    at = 2
    while True:
        marker, kind, length = struct.unpack_from(">BBH", data, at)
        if marker != 0xFF or length < 2:
            raise ValueError("no marker where one must be")
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        # SOF0 to SOF15 but DHT, JPG and DAC, which share the range (ITU T.81, table B.1).
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if kind == 0xDA:
            raise ValueError("picture before its frame header")
        at += 2 + length


def _gif(data: bytes) -> tuple[int, int] | None:
    if data[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    if not data.endswith(b";"):
        raise ValueError("no trailer")
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise ValueError("cut off")
    match data[12:16]:
        case b"VP8 ":
            if data[23:26] != b"\x9d\x01\x2a":
                raise ValueError("no key frame")
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            if data[20] != 0x2F:
                raise ValueError("no signature")
            bits = struct.unpack_from("<I", data, 21)[0]
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    raise ValueError("no picture")


def _mp4(data: bytes) -> tuple[int, int] | None:
    if data[4:8] != b"ftyp":
        return None
    found, at = set(), 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1:
            size = struct.unpack_from(">Q", data, at + 8)[0]
        elif size == 0:  # to the end of the file
            size = len(data) - at
        if size < 8 or at + size > len(data):
            raise ValueError("a box beyond the end")
        found.add(kind)
        at += size
    if not {b"moov", b"mdat"} <= found:
        raise ValueError("no film in it")
    return 0, 0


def _webm(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    if b"webm" not in data[:64] or b"\x18\x53\x80\x67" not in data[:256]:
        raise ValueError("no segment of a WebM")
    return 0, 0


_READERS = {
    "image/png": _png, "image/jpeg": _jpeg, "image/gif": _gif, "image/webp": _webp,
    "video/mp4": _mp4, "video/webm": _webm,
}  # fmt: skip
