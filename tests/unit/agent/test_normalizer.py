"""The statistics against numpy's on all observations at once; what goes in and out of the networks."""

import copy

import numpy as np
import pytest
import torch

from agent.compilation import has_compiler
from agent.normalizer import CLIP, EPSILON, ObservationNormalizer
from replay_buffer import OpenLoopStates
from tests.unit.agent.test_sac import make_batch

O, A = 4, 2
LARGEST = float(np.finfo(np.float32).max)


def normalizer_of(observations):
    normalizer = ObservationNormalizer(observations.shape[1])
    for obs in observations:
        normalizer.update(obs)
    return normalizer


def random_observations(count, mean=(0, 3, -20, 1e3), std=(1, 0.01, 50, 1)):
    return np.random.default_rng(0).normal(mean, std, (count, O)).astype(np.float32)


def expected(observations, x):
    """The definition, in float64."""
    seen = observations.astype(np.float64)
    z = (np.asarray(x, np.float64) - seen.mean(0)) / np.sqrt(seen.var(0) + EPSILON)
    return torch.from_numpy(z.clip(-CLIP, CLIP).astype(np.float32))


@pytest.mark.parametrize("count", [2, 3, 1000])
def test_output_is_the_definitions(count):
    observations = random_observations(count)
    normalizer, x = normalizer_of(observations), observations[:10]
    assert normalizer.count == count
    torch.testing.assert_close(normalizer(torch.from_numpy(x)), expected(observations, x), rtol=1e-5, atol=1e-4)


def test_far_values_are_clipped():
    normalizer = normalizer_of(random_observations(100))
    far = torch.tensor([[1e3, -1e3, 1e5, -1e5]])
    assert normalizer(far).tolist() == [[CLIP, -CLIP, CLIP, -CLIP]]


def test_a_small_spread_far_from_zero_is_not_lost():
    """Sums of squares, or float32, would give a variance of 0 or below."""
    seen = 1e6 + np.random.default_rng(0).integers(0, 2, (20_000, 1)) / 16  # exact in float32
    normalizer = normalizer_of(seen.astype(np.float32))
    assert normalizer.mean.item() == pytest.approx(seen.mean(), abs=1e-7)
    assert (normalizer.m2 / normalizer.count).item() == pytest.approx(seen.var(), rel=1e-7)


def test_the_output_is_as_exact_as_a_float32_mean():
    means = 1e6 + np.arange(8) / 37
    seen = np.random.default_rng(0).normal(means, 1, (1000, 8)).astype(np.float32)
    error = normalizer_of(seen)(torch.from_numpy(seen)) - expected(seen, seen)
    assert error.abs().max() < 0.033  # half the distance of two numbers at 1e6, in standard deviations


def test_constants_are_those_of_the_cited_packages():
    assert (EPSILON, CLIP) == (1e-8, 10)


def test_nothing_is_lost_after_1e7_steps():
    """Continued from statistics of 2^25 observations, where a float32 count would stand still."""
    count, mean, variance = 2.0**25, 0.5, 2.0
    normalizer = ObservationNormalizer(1)
    normalizer.count.fill_(count), normalizer.mean.fill_(mean), normalizer.m2.fill_(count * variance)
    more = np.random.default_rng(0).normal(3, 1, (1000, 1)).astype(np.float32)
    for obs in more:
        normalizer.update(obs)
    more, total = more.astype(np.float64), count + 1000
    # Chan, Golub and LeVeque 1983: two sets of observations together.
    joint_mean = (count * mean + 1000 * more.mean()) / total
    joint_m2 = count * variance + 1000 * more.var() + (more.mean() - mean) ** 2 * count * 1000 / total
    assert normalizer.count == total
    assert normalizer.mean.item() - mean == pytest.approx(joint_mean - mean, rel=1e-7)
    assert normalizer.m2.item() - count * variance == pytest.approx(joint_m2 - count * variance, rel=1e-7)
    assert normalizer.shift.item() == np.float32(joint_mean)
    assert normalizer.scale.item() == np.float32(1 / np.sqrt(joint_m2 / total + EPSILON))


def test_before_the_first_observation_it_only_clips():
    normalizer = ObservationNormalizer(2)
    assert normalizer(torch.tensor([[0.5, -20.0]])).tolist() == [[0.5, -CLIP]]


def test_after_one_observation_it_is_zero_there_and_at_the_bounds_elsewhere():
    normalizer = normalizer_of(np.array([[0.3, -7.0]], np.float32))
    assert normalizer(torch.tensor([[0.3, -7.0]])).tolist() == [[0, 0]]
    assert normalizer(torch.tensor([[0.4, -8.0]])).tolist() == [[CLIP, -CLIP]]


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6, 1e38])
def test_a_dimension_that_never_moves_is_zero_and_wakes_up_when_it_moves(constant):
    normalizer = normalizer_of(np.full((1000, 1), constant, np.float32))
    value = np.full(1, constant, np.float32)
    assert normalizer(torch.from_numpy(value)).item() == 0
    other = np.float32(constant) + np.float32(max(1, abs(constant)))
    assert normalizer(torch.tensor([other])).item() == CLIP
    for _ in range(1000):
        normalizer.update(np.array([other]))
    assert normalizer(torch.from_numpy(value)).item() == pytest.approx(-1, rel=1e-3)
    assert normalizer(torch.tensor([other])).item() == pytest.approx(1, rel=1e-3)


def test_noise_in_a_constant_dimension_is_not_blown_up():
    normalizer = normalizer_of(np.random.default_rng(0).normal(0, 1e-9, (100, 1)).astype(np.float32))
    assert abs(normalizer(torch.tensor([1e-9])).item()) < 1e-4


@pytest.mark.parametrize("flush", [False, True])
def test_float32_extremes_stay_finite(flush):
    """Also where the processor takes subnormal numbers for 0: the scale of such observations would be one."""
    seen = np.array([[LARGEST, 1e38, LARGEST], [-LARGEST, -1e38, 0], [LARGEST, 0, -LARGEST]], np.float32)
    if torch.set_flush_denormal(flush) or not flush:
        try:
            for count in (1, 2, 3):
                normalizer = normalizer_of(seen[:count])
                assert all(torch.isfinite(buffer).all() for buffer in normalizer.buffers())
                outputs = normalizer(torch.from_numpy(np.concatenate([seen, -seen, 0 * seen])))
                assert outputs.abs().max() <= CLIP
        finally:
            torch.set_flush_denormal(False)
    variance = seen.astype(np.float64).var(0)
    torch.testing.assert_close(normalizer.m2 / normalizer.count, torch.from_numpy(variance), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 4)])
def test_another_shape_is_refused(shape):
    normalizer = ObservationNormalizer(O)
    with pytest.raises(ValueError) as caught:
        normalizer.update(np.zeros(shape, np.float32))
    assert str(caught.value) == f"obs has shape {shape} instead of (4,)" and normalizer.count == 0


def test_observations_of_another_size_are_refused():
    with pytest.raises(ValueError, match="observations have 1 numbers instead of 4"):
        ObservationNormalizer(O)(torch.zeros(5, 1))


def test_statistics_are_taken_over_in_place_and_counting_goes_on():
    """What holds the buffers, as compiled code does, sees them; one with another size is refused."""
    observations = random_observations(100)
    whole, first, second = normalizer_of(observations), normalizer_of(observations[:60]), ObservationNormalizer(O)
    held = dict(second.named_buffers())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for obs in observations[60:]:
        second.update(obs)
    for name, buffer in whole.named_buffers():
        assert torch.equal(held[name], buffer) and held[name] is getattr(second, name)
    with pytest.raises(RuntimeError, match="size mismatch"):
        ObservationNormalizer(O + 1).load_state_dict(first.state_dict())


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_sees_statistics_that_are_updated_later(make_agent, backend):
    """Of the whole batch, and without compiling anew."""
    if backend == "inductor" and not has_compiler():
        pytest.skip("there is no C++ compiler")
    torch._dynamo.reset()
    agent, batch = make_agent(O, A, "--normalize_observations", "--chunk_size", "3"), make_batch(3)
    compiled = torch.compile(agent.normalized, fullgraph=True, dynamic=False, backend=backend)
    results = []
    with torch._dynamo.config.patch(error_on_recompile=True):
        for obs in random_observations(4):
            agent.observe(obs)
            outputs, eager = compiled(batch), agent.normalized(batch)
            for one, other in zip(flat(outputs), flat(eager), strict=True):
                torch.testing.assert_close(one, other)
            results.append(outputs.obs)
    assert not any(torch.equal(one, other) for one, other in zip(results, results[1:], strict=False))


def flat(batch):
    return [*batch[:-1], *batch.reached]


def trained(make_agent, flags, prepare):
    """An agent after 3 updates of prepared batches."""
    agent = make_agent(O, A, *flags)
    for obs in random_observations(50):
        agent.observe(obs)
    return agent, [agent.update(prepare(make_batch(agent.chunk_size, seed=seed))) for seed in range(3)]


@pytest.mark.parametrize("h", [1, 3])
def test_all_networks_see_normalised_observations(make_agent, h):
    """As an agent without normalisation whose observations were normalised beforehand, number for number."""
    observations = random_observations(50)
    normalizer = normalizer_of(observations)

    def prepare(batch):
        if h > 1:
            reached = batch.reached._replace(
                planned_at=normalizer(batch.reached.planned_at), obs=normalizer(batch.reached.obs)
            )
            batch = batch._replace(reached=reached)
        return batch._replace(obs=normalizer(batch.obs), next_obs=normalizer(batch.next_obs))

    flags = ["--chunk_size", str(h)]
    plain, metrics = trained(make_agent, [*flags, "--no-normalize_observations"], prepare)
    inside, others = trained(make_agent, [*flags, "--normalize_observations"], lambda batch: batch)
    for one, other in zip(metrics, others, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("actor", "critic", "critic_target"):
        networks = [getattr(agent, name).parameters() for agent in (plain, inside)]
        assert all(torch.equal(p, q) for p, q in zip(*networks, strict=True))
    obs = observations[7]
    seen = normalizer(torch.from_numpy(obs))
    for sample in (False, True):
        ours, theirs = inside.plan(obs, sample), plain.plan(seen.numpy(), sample)
        assert (ours.actions == theirs.actions).all() and (ours.confidences == theirs.confidences).all()
    if h > 1:
        x = torch.from_numpy(observations[:8])
        reached = OpenLoopStates(x, torch.arange(8) % 2 + 1, x + 1)
        theirs = plain.predict_advantage(reached._replace(planned_at=normalizer(x), obs=normalizer(x + 1)))
        assert torch.equal(inside.predict_advantage(reached), theirs)


def test_only_observe_moves_the_statistics(make_agent):
    agent = make_agent(O, A, "--normalize_observations", "--chunk_size", "3")
    agent.observe(np.ones(O, np.float32))
    before = copy.deepcopy(agent.actor.normalizer.state_dict())
    batch = make_batch(3)
    agent.update(batch)
    agent.plan(np.zeros(O, np.float32), sample=False), agent.plan(np.zeros(O, np.float32), sample=True)
    agent.predict_advantage(batch.reached)
    after = agent.actor.normalizer.state_dict()
    assert before["count"] == 1 and all(torch.equal(after[name], before[name]) for name in before)


def test_without_the_flag_there_are_no_statistics(make_agent):
    agent = make_agent(O, A, "--no-normalize_observations")
    agent.observe(np.full(O, 5, np.float32))
    assert not any("normalizer" in name for name in agent.actor.state_dict())
    obs = torch.full((2, O), 99.0)
    assert torch.equal(agent.actor.normalizer(obs), obs)


def test_statistics_are_saved_with_the_actor_and_have_to_fit(make_agent):
    agent, other = (make_agent(O, A, "--normalize_observations") for _ in range(2))
    for obs in random_observations(9):
        agent.observe(obs)
    other.actor.load_state_dict(agent.actor.state_dict())
    assert other.actor.normalizer.count == 9
    other.load_state_dict(make_agent(O, A, "--normalize_observations").state_dict())
    assert other.actor.normalizer.count == 0
    without = make_agent(O, A, "--no-normalize_observations")
    for one, another in ((agent, without), (without, agent)):
        with pytest.raises(RuntimeError, match="normalizer"):
            one.actor.load_state_dict(another.actor.state_dict())


@pytest.mark.parametrize("name", ["mean", "scale"])
def test_statistics_that_are_not_finite_are_noticed(make_agent, name):
    agent = make_agent(O, A, "--normalize_observations")
    assert agent.is_finite()
    getattr(agent.actor.normalizer, name)[1] = float("nan")
    assert not agent.is_finite()
