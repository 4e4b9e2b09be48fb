"""PNG, BMP and TIFF files written by hand, with what usual writers leave out, and RGB of a second reader's samples."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column of each pass of an interlaced PNG, and the steps from there."""


def packed_rows(samples: Samples, bits: int, order: str) -> NDArray[np.uint8]:
    """Pack (H, W) or (H, W, C) samples of 1 to 32 bits to (H, bytes of a row) uint8; order is < or >."""
    rows = samples.reshape(len(samples), -1).astype(np.uint32)
    if bits == 24:
        return rows.astype("<u4").view(np.uint8).reshape(*rows.shape, 4)[..., :3].reshape(len(rows), -1)
    if bits >= 8:
        return rows.astype(f"{order}u{bits // 8}").view(np.uint8).reshape(len(rows), -1)
    each = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(each.reshape(len(rows), -1).astype(np.uint8), axis=1)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: Samples, depth: int, colour_type: int, *chunks: tuple[bytes, bytes], interlaced: bool = False
) -> bytes:
    """Encode (H, W, C) samples; its rows take the filters none, sub and up in turn."""

    def filtered(part: Samples) -> bytes:
        if not part.size:
            return b""
        rows = packed_rows(part, depth, ">")
        pixel = max(1, part.shape[2] * depth // 8)
        encoded = rows.copy()
        encoded[1::3, pixel:] -= rows[1::3, :-pixel]
        encoded[2::3] -= rows[1::3][: len(rows[2::3])]
        return b"".join(bytes([row % 3]) + line.tobytes() for row, line in enumerate(encoded))

    parts = [samples[r::down, c::right] for r, c, down, right in ADAM7] if interlaced else [samples]
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(png_chunk(*chunk) for chunk in chunks)
        + png_chunk(b"IDAT", zlib.compress(b"".join(map(filtered, parts))))
        + png_chunk(b"IEND", b"")
    )


def bmp(
    pixels: Samples,
    bits: int,
    *,
    header_bytes: int = 40,
    masks: Sequence[int] = (),
    palette: Samples | None = None,
    top_down: bool = False,
) -> bytes:
    """Encode (H, W) pixels of `bits` each; masks make it BITFIELDS, palette is (N, 3) uint8 in BGR."""
    height, width = pixels.shape
    rows = packed_rows(pixels, bits, "<")
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    data = (rows if top_down else rows[::-1]).tobytes()
    colours = b""
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
        colours = b"" if palette is None else palette.astype(np.uint8).tobytes()
    else:
        entries = 0 if palette is None else len(palette)
        if palette is not None:
            colours = np.pad(palette.astype(np.uint8), ((0, 0), (0, 1))).tobytes()
        header = struct.pack("<Iii", header_bytes, width, -height if top_down else height)
        header += struct.pack("<HHIIiiII", 1, bits, 3 if masks else 0, len(data), 2835, 2835, entries, 0)
        header = (header + struct.pack(f"<{len(masks)}I", *masks)).ljust(header_bytes, b"\0")
    start = 14 + len(header) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + colours + data


def tiff(
    data: bytes, width: int, height: int, bits: Sequence[int], tags: Mapping[int, Sequence[int]], order: str = "<"
) -> bytes:
    """Lay one strip of data, not compressed, into a TIFF with these tags beside those of its size."""
    fields: dict[int, Sequence[int]] = {
        256: (width,),
        257: (height,),
        258: bits,
        259: (1,),
        273: (8,),  # where the strip begins
        277: (len(bits),),
        278: (height,),
        279: (len(data),),
        **tags,
    }
    data += bytes(len(data) % 2)
    longs = {273, 279}
    directory, beyond = struct.pack(order + "H", len(fields)), b""
    end = 8 + len(data) + 2 + 12 * len(fields) + 4
    for tag in sorted(fields):
        value = struct.pack(f"{order}{len(fields[tag])}{'I' if tag in longs else 'H'}", *fields[tag])
        directory += struct.pack(order + "HHI", tag, 4 if tag in longs else 3, len(fields[tag]))
        if len(value) > 4:
            directory += struct.pack(order + "I", end + len(beyond))
            beyond += value
        else:
            directory += value.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8 + len(data)) + data + directory + bytes(4) + beyond


def rgb_on_white(samples: Samples, *, premultiplied: bool = False) -> NDArray[np.float64]:
    """Convert a second reader's (H, W) or (H, W, 1 to 4) samples of 8 or 16 bits to RGB, by the rules of decode.

    16-bit grey is divided by 257, of other 16-bit samples the high byte counts; alpha is composited on white.
    """
    samples = samples if samples.ndim == 3 else samples[..., None]
    if samples.dtype == np.uint16:
        eight = samples / 257 if samples.shape[2] == 1 else (samples >> 8).astype(np.float64)
    else:
        eight = samples.astype(np.float64)
    if samples.shape[2] in (2, 4):
        alpha = eight[..., -1:] / 255
        eight = eight[..., :-1] * (1 if premultiplied else alpha) + 255 * (1 - alpha)
    return np.broadcast_to(eight, (*samples.shape[:2], 3))
