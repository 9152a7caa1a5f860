"""Solves a dense system of linear equations and checks the solution as LINPACK does."""

import time

import numpy


def handler(event, context):
    """Solves A x = b of size `n`, where b is made so that every x is 1. The normalised residual must stay below 16."""
    n = event["n"]
    a = numpy.random.default_rng(event["seed"]).standard_normal((n, n))
    b = a.sum(axis=1)

    start = time.perf_counter()
    x = numpy.linalg.solve(a, b)
    seconds = time.perf_counter() - start

    scale = n * numpy.abs(a).max() * numpy.abs(x).max() * numpy.finfo(float).eps
    return {
        "residual": float(numpy.abs(a @ x - b).max() / scale),
        "error": float(numpy.abs(x - 1).max()),
        "mflops": (2 / 3 * n**3 + 2 * n**2) / seconds / 1e6,
    }
