import pytest
import torch

from utils import Every, choose_device, numpy_generator, torch_generator


def first_numpy(seed, stream):
    return numpy_generator(seed, stream).random(4).tolist()


def first_torch(seed, stream):
    return torch.rand(4, generator=torch_generator(seed, stream, "cpu")).tolist()


@pytest.mark.parametrize("first", [first_numpy, first_torch])
def test_streams_are_reproducible_and_their_own(first):
    assert first(1, "update") == first(1, "update")
    streams = [first(seed, stream) for seed in (1, 2) for stream in ("plan", "plan2", "update", "replay")]
    assert len({tuple(numbers) for numbers in streams}) == 8


def test_choose_device():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("abacus", "cuda:77", ""):
        with pytest.raises(ValueError, match="is not usable here"):
            choose_device(name)


def test_every_says_so_once_per_interval():
    due = Every(10, step=3)
    assert [step for step in (3, 12, 13, 14, 22, 27, 30, 37, 100) if due(step)] == [13, 27, 37, 100]
    never = Every(0)
    assert not any(never(step) for step in range(100))
