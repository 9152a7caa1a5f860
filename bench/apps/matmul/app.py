"""Multiplies two matrices and checks the product by Freivalds' method."""

import hashlib

import numpy


def handler(event, context):
    """Multiplies two `n` x `n` matrices of small whole numbers, so that the product is exact on every computer."""
    n = event["n"]
    random = numpy.random.default_rng(event["seed"])
    a, b = random.integers(-99, 100, (2, n, n)).astype(float)
    product = a @ b

    probe = random.integers(0, 2, n).astype(float)
    return {
        "verified": bool(numpy.array_equal(product @ probe, a @ (b @ probe))),
        "trace": int(product.trace()),
        "sha256": hashlib.sha256(product.astype("<i8").tobytes()).hexdigest(),
    }
