import pytest
import torch

from utils import choose_device, generator


def first(seed, stream):
    return torch.rand(4, generator=generator(seed, stream)).tolist()


def test_streams_are_reproducible_and_their_own():
    assert first(1, "update") == first(1, "update")
    streams = [first(seed, stream) for seed in (1, 2) for stream in ("plan", "plan2", "update", "replay")]
    assert len({tuple(numbers) for numbers in streams}) == 8


def test_choose_device():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("abacus", "cuda:77", ""):
        with pytest.raises(ValueError, match="is not usable here"):
            choose_device(name)
