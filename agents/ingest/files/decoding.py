"""Bytes to text: what is none is named, UTF-16 is converted and said."""

from schemas.errors import UnknownFormatError

_HEAD_BYTES, _HEAD_CHARACTERS = 4096, 4096
_MOST_DAMAGED = 400
"""Characters of the head that no UTF-8 stands for; text in an old 8-bit encoding has fewer."""
_BINARY = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
}


def decoded(raw: bytes | None, supported: str) -> tuple[str, list[str]]:
    """The file as text, and what has to be said about that. `supported`: the formats that a reason recommends.

    Raises `UnknownFormatError`.
    """
    if not raw or not raw.strip():
        raise UnknownFormatError("the file is empty: export it again and send the whole file")
    for magic, what in _BINARY.items():
        if raw.startswith(magic):
            raise UnknownFormatError(f"this is {what}, not a CGM export: send the CSV file of {supported}")
    head = raw[:_HEAD_BYTES]
    if encoding := _utf16(head):
        try:
            return raw.decode(encoding).lstrip("\ufeff"), ["ENCODING: The file was in UTF-16 and was converted"]
        except UnicodeDecodeError:
            raise UnknownFormatError("the file looks like UTF-16 text and is damaged: save it as UTF-8 CSV") from None
    if b"\x00" in head:
        raise UnknownFormatError(f"the file is not text: send the CSV file of {supported}")
    from cgm_format import FormatParser

    text = str(FormatParser.decode_raw_data(raw))
    if text.count("\ufffd", 0, _HEAD_CHARACTERS) > _MOST_DAMAGED:
        raise UnknownFormatError(f"the file is not text: send the CSV file of {supported}")
    return text, []


def _utf16(head: bytes) -> str | None:
    """The kind of UTF-16 that a file's first bytes are, by their mark or by the zeros in every other place."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if head[1::2].count(0) > len(head) // 4:
        return "utf-16-le"
    if head[0::2].count(0) > len(head) // 4:
        return "utf-16-be"
    return None
