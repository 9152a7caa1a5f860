"""Processes the frames of a clip: turns them grey, and finds the camera's movement between neighbours.

A clip is a list of JPEG frames (motion JPEG), so it needs no video codec. Movement is found by phase correlation: the
shift between two frames is the peak of the inverse transform of their normalised cross spectrum.
"""

import base64
import io

import numpy
from PIL import Image

Image.preinit()


def handler(event, context):
    """Answers with the camera's movement (right, down) from each of `frames` to the next, and the grey clip's size."""
    spectrum, movement, grey_bytes = None, [], 0
    for frame in event["frames"]:
        with Image.open(io.BytesIO(base64.b64decode(frame))) as image:
            grey = image.convert("L")
        grey_bytes += jpeg_size(grey)
        before, spectrum = spectrum, spectrum_of(numpy.asarray(grey, dtype=float))
        if before is not None:
            movement.append(shift_between(before, spectrum, (grey.width, grey.height)))
    return {"frames": len(event["frames"]), "movement": movement, "grey_bytes": grey_bytes}


def jpeg_size(image):
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=75)
    return jpeg.tell()


def spectrum_of(pixels):
    """The transform of the frame, faded out at its borders, where things come and go."""
    height, width = pixels.shape
    window = numpy.outer(numpy.hanning(height), numpy.hanning(width))
    return numpy.fft.rfft2((pixels - pixels.mean()) * window)


def shift_between(before, after, size):
    width, height = size
    cross = before * after.conj()
    peaks = numpy.fft.irfft2(cross / numpy.maximum(numpy.abs(cross), 1e-9), (height, width))
    down, right = numpy.unravel_index(peaks.argmax(), peaks.shape)
    signed = lambda shift, length: int(shift - length if shift > length // 2 else shift)
    return [signed(right, width), signed(down, height)]
