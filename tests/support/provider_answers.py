"""What the providers' references say of their answers, as JSON Schema, and readers of the files in them."""

import base64
import struct
import zlib
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

JSON = dict[str, Any]
STRING: JSON = {"type": "string", "minLength": 1}
COUNT: JSON = {"type": "integer", "minimum": 0}


def _object(required: JSON, **optional: JSON) -> JSON:
    properties = {**required, **optional}
    return {
        "type": "object", "required": list(required), "properties": properties, "additionalProperties": False,
    }  # fmt: skip


SCHEMAS: dict[str, JSON] = {
    # https://platform.openai.com/docs/api-reference/images/object
    "openai": _object(
        {
            "created": COUNT,
            "background": {"enum": ["opaque", "transparent"]},
            "data": {"type": "array", "items": _object({"b64_json": STRING})},
            "output_format": {"enum": ["png", "jpeg", "webp"]},
            "quality": {"enum": ["low", "medium", "high", "xhigh", "max"]},
            "size": {"type": "string", "pattern": "^[0-9]+x[0-9]+$"},
            "usage": _object(
                {
                    "input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT,
                    "input_tokens_details": _object({"text_tokens": COUNT, "image_tokens": COUNT}),
                    "output_tokens_details": _object({"text_tokens": COUNT, "image_tokens": COUNT}),
                }
            ),
        }
    ),
    "openai error": _object(
        {
            "error": _object(
                {"message": STRING, "type": STRING, "param": {}, "code": {"type": ["string", "null"]}}
            )
        }
    ),
    # https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
    "gemini": _object(
        {"usageMetadata": {"type": "object", "required": ["promptTokenCount", "totalTokenCount"]}},
        modelVersion=STRING, responseId=STRING,
        promptFeedback=_object({"blockReason": STRING}),
        candidates={
            "type": "array",
            "items": _object(
                {"content": {"type": "object"}, "finishReason": STRING, "index": COUNT}, finishMessage=STRING
            ),
        },
    ),
    "gemini error": _object(
        {"error": _object({"code": COUNT, "message": STRING, "status": STRING}, details={"type": "array"})}
    ),
    # https://platform.stability.ai/docs/api-reference
    "stability": _object(
        {
            "image": {"type": "string"}, "finish_reason": {"enum": ["SUCCESS", "CONTENT_FILTERED"]},
            "seed": {"type": "integer", "minimum": 0, "maximum": 4294967294},
        }
    ),
    "stability error": _object(
        {"id": STRING, "name": STRING, "errors": {"type": "array", "minItems": 1, "items": STRING}}
    ),
    # https://docs.dev.runwayml.com/api
    "runway": _object({"id": {"type": "string", "format": "uuid"}}),
    "runway task": _object(
        {
            "id": STRING, "createdAt": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT[\d:.]+Z$"},
            "status": {"enum": ["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]},
        },
        progress={"type": "number", "minimum": 0, "maximum": 1}, failure=STRING, failureCode=STRING,
        output={"type": "array", "items": STRING},
    ),
    "runway error": _object({"error": STRING}, issues={"type": "array"}),
}  # fmt: skip


def fits(name: str, answer: Any) -> None:
    """Fail unless the answer has the shape of that name."""
    errors = [error.message for error in Draft202012Validator(SCHEMAS[name]).iter_errors(answer)]
    assert not errors, (name, errors, answer)


def decode_png(data: bytes) -> tuple[int, int, frozenset[bytes]]:
    """Width, height and the colours (3 bytes each) that the pixels have: a small decoder."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, dict[bytes, bytes]()
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        (crc,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert crc == zlib.crc32(kind + body)
        chunks[kind] = chunks.get(kind, b"") + body
        position += 12 + length
    assert position == len(data) and b"IEND" in chunks
    width, height, depth, colour_type = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour_type) == (4, 3)
    rows, length = zlib.decompress(chunks[b"IDAT"]), (width + 1) // 2
    assert len(rows) == height * (length + 1)
    assert {rows[y * (length + 1)] for y in range(height)} == {0}  # no filter
    used = {nibble for byte in set(rows[1:]) for nibble in (byte >> 4, byte & 15)}
    palette = chunks[b"PLTE"]
    return width, height, frozenset(palette[3 * n : 3 * n + 3] for n in used)


def decode_boxes(data: bytes) -> dict[str, bytes]:
    """The boxes of an MP4 by their path, such as moov/trak/tkhd."""
    found: dict[str, bytes] = {}

    def read(begin: int, end: int, path: str) -> None:
        while begin < end:
            length, kind = struct.unpack(">I4s", data[begin : begin + 8])
            assert 8 <= length <= end - begin
            name = f"{path}{kind.decode()}"
            found[name] = data[begin + 8 : begin + length]
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
                read(begin + 8, begin + length, f"{name}/")
            begin += length

    read(0, len(data), "")
    return found


def png_in(answer: JSON) -> bytes:
    """The picture in an answer of Gemini."""
    (part,) = [part for part in answer["candidates"][0]["content"]["parts"] if "inlineData" in part]
    assert part["inlineData"]["mimeType"] == "image/png"
    return base64.b64decode(part["inlineData"]["data"], validate=True)
