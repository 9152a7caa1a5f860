"""Prints an event for `app.handler`: six documents of 12 to 30 KB whose words are as uneven as those of a language."""

import json
import random
import sys


def event(seed=1):
    rng = random.Random(seed)
    words = sorted({word(rng) for _ in range(4000)})
    rng.shuffle(words)
    # Zipf's law: the word of rank r is as frequent as 1 / r.
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    return {"documents": [document(rng, words, weights, size) for size in range(12_000, 31_000, 3600)], "partitions": 3}


def word(rng):
    return "".join(rng.choice("bcdfglmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))


def document(rng, words, weights, size):
    """Sentences, with capitals and full stops, until there are `size` characters of them."""
    text = ""
    while len(text) < size:
        text += " ".join(rng.choices(words, weights, k=rng.randint(4, 16))).capitalize() + ". "
    return text


if __name__ == "__main__":
    json.dump(event(), sys.stdout)
