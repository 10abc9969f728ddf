"""All optimizers: their formulas, what other libraries make of them, and runs of the vectors."""

import itertools

import numpy as np
import pytest
from optimizers import OPTIMIZERS, missing

from ddp_numpy.optim import LAMB, LARS, SGD, Adam, AdamW, Optimizer, RMSprop

PARAMETERS = {
    "W of layer 1 (Dense)": slice(0, 12),
    "b of layer 1 (Dense)": slice(12, 15),
    "W of layer 2": slice(15, 21),
}
P, STEPS = 21, 100


def start() -> np.ndarray:
    params = np.random.default_rng(1).standard_normal(P)
    params[12:15] = 0  # as biases are: a norm of 0 is a case of its own
    return params


def gradients(params: np.ndarray, step: int) -> np.ndarray:
    """Of a function of the parameters that is another one at each step."""
    return params * 0.3 + np.random.default_rng(step).standard_normal(P)


def trained(optimizer: Optimizer, runs: list[slice] | None = None, dtype: type = np.float64) -> np.ndarray:
    params = start().astype(dtype)
    optimizer.prepare(params, PARAMETERS)
    for step in range(STEPS):
        optimizer.step(params, gradients(params, step).astype(dtype), runs)
    return params


def formula(optimizer: Optimizer) -> np.ndarray:
    """The same by the papers' formulas, written down parameter by parameter."""
    params, memory = start(), {name: [np.zeros(P), np.zeros(P)] for name in PARAMETERS}
    for step in range(STEPS):
        grads = gradients(params, step)
        for name, part in PARAMETERS.items():
            own = next((group.hyper for group in optimizer.groups if group.chooses(name)), {})
            h = {**optimizer.hyper, **own}
            w, g, (m, v) = params[part], grads[part], (vector[part] for vector in memory[name])
            if isinstance(optimizer, LARS):
                norms = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
                ratio = h["trust"] * norms[0] / (norms[1] + h["weight_decay"] * norms[0])
                ratio = ratio if norms[0] > 0 and norms[1] > 0 and h["adapt"] else 1
                m[:] = h["momentum"] * m + h["lr"] * ratio * (g + h["weight_decay"] * w)
                w -= m
                continue
            if isinstance(optimizer, Adam):
                if not isinstance(optimizer, AdamW):
                    g = g + h["weight_decay"] * w
                m[:] = h["beta1"] * m + (1 - h["beta1"]) * g
                v[:] = h["beta2"] * v + (1 - h["beta2"]) * g**2
                u = m / (1 - h["beta1"] ** (step + 1)) / (np.sqrt(v / (1 - h["beta2"] ** (step + 1))) + h["epsilon"])
                if isinstance(optimizer, AdamW):
                    u = u + h["weight_decay"] * w
                ratio = 1.0
                if isinstance(optimizer, LAMB) and h["adapt"] and (w**2).sum() > 0:
                    ratio = np.sqrt((w**2).sum() / (u**2).sum())
                w -= h["lr"] * ratio * u
                continue
            g = g + h["weight_decay"] * w
            if isinstance(optimizer, RMSprop):
                v[:] = h["decay"] * v + (1 - h["decay"]) * g**2
                g = g / (np.sqrt(v) + h["epsilon"])
            m[:] = h["momentum"] * m + g
            ahead = isinstance(optimizer, SGD) and optimizer.nesterov
            w -= h["lr"] * (g + h["momentum"] * m if ahead else m)
    return params


def test_the_table_has_all_optimizers() -> None:
    assert not missing()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_does_what_its_paper_says(name: str) -> None:
    np.testing.assert_allclose(trained(OPTIMIZERS[name]()), formula(OPTIMIZERS[name]()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_stays_float32(name: str) -> None:
    optimizer = OPTIMIZERS[name]()
    assert trained(optimizer, dtype=np.float32).dtype == np.float32
    assert all(array.dtype == np.float32 for array in optimizer.state.values())


@pytest.mark.parametrize("cuts", [(0, 21), (0, 7, 21), (0, 3, 3, 12, 17, 21)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_run_by_run_is_all_at_once(name: str, cuts: tuple[int, ...]) -> None:
    optimizer = OPTIMIZERS[name]()
    if optimizer.by_parameter:
        cuts = (0, 21)
    runs = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(trained(optimizer, runs), trained(OPTIMIZERS[name]()))
    assert optimizer.elementwise is not optimizer.by_parameter


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_says_what_it_is(name: str) -> None:
    text = str(OPTIMIZERS[name]())
    assert text.startswith(name.split(",")[0] + ", learning rate ")
    assert ("weight decay" in text) == bool(OPTIMIZERS[name]().hyper["weight_decay"])
    assert ("decoupled" in text) == name.startswith(("AdamW", "LAMB"))


def hypers(optimizer: Optimizer, **names: str) -> dict[str, float]:
    """The optimizer's hyperparameters by another library's names."""
    return {theirs: optimizer.hyper[ours] for theirs, ours in names.items()}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if not name.startswith("LA")])
def test_pytorch_makes_the_same(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours = OPTIMIZERS[name]()
    params = torch.nn.ParameterDict({key: torch.tensor(start()[part]) for key, part in PARAMETERS.items()})
    decays = [ours.hyper["weight_decay"] * (not ours.groups or key.startswith("W ")) for key in PARAMETERS]
    groups = [{"params": [params[key]], "weight_decay": d} for key, d in zip(PARAMETERS, decays, strict=True)]
    if isinstance(ours, SGD):
        theirs = torch.optim.SGD(groups, **hypers(ours, lr="lr", momentum="momentum"), nesterov=ours.nesterov)
    elif isinstance(ours, RMSprop):
        theirs = torch.optim.RMSprop(groups, **hypers(ours, lr="lr", alpha="decay", momentum="momentum", eps="epsilon"))
    else:
        kind = torch.optim.AdamW if isinstance(ours, AdamW) else torch.optim.Adam
        betas = (ours.hyper["beta1"], ours.hyper["beta2"])
        theirs = kind(groups, betas=betas, **hypers(ours, lr="lr", eps="epsilon"))
    for step in range(STEPS):
        values = np.concatenate([params[key].detach().numpy() for key in PARAMETERS])
        for key, part in PARAMETERS.items():
            params[key].grad = torch.tensor(gradients(values, step)[part])
        theirs.step()
    found = np.concatenate([params[key].detach().numpy() for key in PARAMETERS])
    np.testing.assert_allclose(trained(ours), found, rtol=1e-12, atol=1e-12)


def optax_of(ours: Optimizer, optax):  # type: ignore[no-untyped-def]
    """The same optimizer of optax's; None where optax has another formula."""
    weights = {key: key.startswith("W ") or not ours.groups for key in PARAMETERS}
    decay = ours.hyper["weight_decay"]
    coupled = optax.masked(optax.add_decayed_weights(decay), weights)
    if isinstance(ours, SGD):
        momentum = ours.hyper["momentum"]
        return optax.chain(coupled, optax.sgd(ours.lr, momentum or None, ours.nesterov))
    if isinstance(ours, LAMB):
        adam = optax.scale_by_adam(*(ours.hyper[name] for name in ("beta1", "beta2", "epsilon")))
        return optax.chain(adam, coupled, optax.masked(optax.scale_by_trust_ratio(), weights), optax.scale(-ours.lr))
    if isinstance(ours, LARS):  # optax takes the norm of the sum of gradient and decay, the paper the sum of norms
        return (
            None
            if decay
            else optax.lars(ours.lr, 0.0, momentum=ours.hyper["momentum"], trust_coefficient=ours.hyper["trust"])
        )
    if isinstance(ours, RMSprop):
        rms = optax.rmsprop(
            ours.lr, ours.hyper["decay"], ours.hyper["epsilon"], eps_in_sqrt=False,
            momentum=ours.hyper["momentum"] or None,
        )  # fmt: skip
        return optax.chain(coupled, rms)
    betas = hypers(ours, b1="beta1", b2="beta2", eps="epsilon")
    if isinstance(ours, AdamW):
        return optax.adamw(ours.lr, **betas, weight_decay=decay, mask=weights)
    return optax.chain(coupled, optax.adam(ours.lr, **betas))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optax_makes_the_same(name: str) -> None:
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    ours = OPTIMIZERS[name]()
    with jax.enable_x64(True):
        theirs = optax_of(ours, optax)
        if theirs is None:
            pytest.skip("another formula")
        params = {key: jax.numpy.asarray(start()[part]) for key, part in PARAMETERS.items()}
        state = theirs.init(params)
        for step in range(STEPS):
            grads = gradients(np.concatenate([params[key] for key in PARAMETERS]), step)
            updates, state = theirs.update({key: grads[part] for key, part in PARAMETERS.items()}, state, params)
            params = optax.apply_updates(params, updates)
        found = np.concatenate([params[key] for key in PARAMETERS])
    np.testing.assert_allclose(trained(ours), found, rtol=1e-12, atol=1e-12)
