"""Prints an event for `app.handler`: the photo of examples/thumbnail, 600 x 400."""

import base64
import json
import sys
from pathlib import Path

PHOTO = Path(__file__).parents[3] / "examples" / "thumbnail" / "photo.jpg"


def event():
    return {"image": base64.b64encode(PHOTO.read_bytes()).decode(), "size": 200}


if __name__ == "__main__":
    json.dump(event(), sys.stdout)
