"""Copies a file in /tmp block by block, as `dd` does."""

import hashlib
import os
import random
import tempfile


def handler(event, context):
    """Writes `count` different blocks of `block` bytes to a file, copies it through one buffer, digests the copy."""
    block, count = event["block"], event["count"]
    with tempfile.TemporaryFile(buffering=0) as source, tempfile.TemporaryFile(buffering=0) as copy:
        pattern = bytearray(random.Random(event["seed"]).randbytes(block))
        for number in range(count):
            pattern[:8] = number.to_bytes(8, "little")
            source.write(pattern)
        source.seek(0)
        moved = copy_blocks(source, copy, block)
        copy.seek(0)
        return {"bytes": moved, "sha256": hashlib.file_digest(copy, "sha256").hexdigest()}


def copy_blocks(source, copy, block):
    buffer = memoryview(bytearray(block))
    moved = 0
    while length := source.readinto(buffer):
        moved += copy.write(buffer[:length])
    os.fsync(copy.fileno())
    return moved
