"""Encrypts and decrypts a message with AES written in Python (the work of FunctionBench's `pyaes`)."""

import hashlib

import pyaes


def handler(event, context):
    """Sends `message` through AES-128 in counter mode and back, `iterations` times, each on the text of the one before."""
    key = bytes.fromhex(event["key"])
    text = plain = event["message"].encode()
    for _ in range(event["iterations"]):
        secret = pyaes.AESModeOfOperationCTR(key).encrypt(text)
        text = pyaes.AESModeOfOperationCTR(key).decrypt(secret)
    return {"bytes": len(secret), "restored": text == plain, "sha256": hashlib.sha256(secret).hexdigest()}
