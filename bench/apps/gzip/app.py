"""Compresses a log to a file in /tmp and reads it back."""

import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path


def handler(event, context):
    """Compresses `log` at `level`, file to file, as a log rotation does, and digests what comes out again."""
    with tempfile.TemporaryDirectory() as folder:
        log, packed = Path(folder, "log"), Path(folder, "log.gz")
        log.write_text(event["log"])
        with log.open("rb") as source, gzip.open(packed, "wb", compresslevel=event["level"]) as sink:
            shutil.copyfileobj(source, sink)
        with gzip.open(packed) as restored:
            digest = hashlib.file_digest(restored, "sha256").hexdigest()
        return {"bytes": log.stat().st_size, "packed": packed.stat().st_size, "sha256": digest}
