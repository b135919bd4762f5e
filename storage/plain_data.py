"""Plain data (dicts, lists, tensors, numbers, strings) as bytes; reading it back executes no code."""

import io
import warnings

import torch


def to_bytes(data):
    """What torch.save writes."""
    stream = io.BytesIO()
    torch.save(data, stream)
    return stream.getvalue()


def from_bytes(content):
    """What `to_bytes` was given, with tensors on the CPU.

    Raises:
        ValueError: the bytes are something else than plain data.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks to report files that it does not know
            return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # foreign bytes can make the unpickler raise anything
        raise ValueError("not plain data") from error
