"""Prints an event for `app.handler`: a clip of 24 frames, 320 x 180, of a camera that pans over a photo."""

import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image

PHOTO = Path(__file__).parents[3] / "examples" / "thumbnail" / "photo.jpg"
PAN = (6, 4)


def event(frames=24, width=320, height=180):
    with Image.open(PHOTO) as photo:
        corners = [(PAN[0] * number, PAN[1] * number) for number in range(frames)]
        return {"frames": [frame(photo, x, y, width, height) for x, y in corners]}


def frame(photo, x, y, width, height):
    jpeg = io.BytesIO()
    photo.crop((x, y, x + width, y + height)).save(jpeg, "JPEG", quality=85)
    return base64.b64encode(jpeg.getvalue()).decode()


if __name__ == "__main__":
    json.dump(event(), sys.stdout)
