"""Plain data (dicts, lists, tensors, numbers, strings) as bytes; reading it back executes no code."""

import io
import warnings

import torch


def to_bytes(data):
    """Plain data as bytes, in the format of torch.save."""
    stream = io.BytesIO()
    torch.save(data, stream)
    return stream.getvalue()


def from_bytes(content):
    """The data that `to_bytes` wrote, with tensors on the CPU.

    Raises:
        ValueError: content is not plain data.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about unknown files, which are an error here anyway
            return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # on arbitrary bytes the unpickler can raise anything
        raise ValueError("not plain data") from error
