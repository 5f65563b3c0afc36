"""What a crash, a power loss or an operator does to a busbar's journal while it is down."""

import pathlib
import random
import re
import shutil


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4 has the test values)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def tear(journal: pathlib.Path, rng: random.Random) -> str:
    """A write() that a kill broke off: the beginning of a block behind the last one, here of bytes that were one."""
    segment = _last_segment(journal)
    if segment is None:
        return "no segment yet"
    data = segment.read_bytes()
    torn = data[: rng.randrange(1, 60)] if rng.random() < 0.5 else b"\0" * rng.randrange(1, 4096)
    segment.write_bytes(data + torn)
    return f"{len(torn)} torn bytes behind {segment.name}"


def lose_power(journal: pathlib.Path, rng: random.Random) -> str:
    """The machine went down: what was not synced is missing at the end, and the boot id is another one."""
    segment = _last_segment(journal)
    if segment is None:
        return "no segment yet"
    size = segment.stat().st_size
    missing = min(size, rng.randrange(0, 200_000))
    with open(segment, "r+b") as file:
        file.truncate(size - missing)
    _change_boot_id(journal, rng)
    return f"{missing} of {size} bytes cut off {segment.name}, another boot id"


def delete(journal: pathlib.Path, rng: random.Random) -> str:
    for entry in journal.iterdir() if journal.exists() else ():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return "deleted"


def _last_segment(journal: pathlib.Path) -> pathlib.Path | None:
    segments = [path for path in journal.rglob("*") if re.fullmatch(r"\d{20}\.seg", path.name)]
    return max(segments, key=lambda path: path.name, default=None)


def _change_boot_id(journal: pathlib.Path, rng: random.Random) -> None:
    """bridge/journal_meta.h says what `meta` looks like."""
    for meta in journal.rglob("meta"):
        lines = meta.read_bytes().split(b"\n")
        kept = [line for line in lines if line and not line.startswith(b"crc=")]
        kept = [b"boot=%032x" % rng.getrandbits(128) if line.startswith(b"boot=") else line for line in kept]
        text = b"".join(line + b"\n" for line in kept)
        meta.write_bytes(text + b"crc=%08x\n" % crc32c(text))
