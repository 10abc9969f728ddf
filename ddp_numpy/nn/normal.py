"""The normal distribution's density and cumulative distribution, which GELU is made of. NumPy has no erf.

With a = |x|, the density is phi(a) = exp(-a^2 / 2) / sqrt(2 pi), and the probability below -a is

    Phi(-a) = phi(a) m(a)        m: Mills' ratio, which falls from 1.2533 at 0, later about as 1 / a

m has no exponential in it, so a polynomial can follow it. As in M. M. Shepherd and J. G. Laframboise, Mathematics of
Computation 36 (1981), 249-253, the half line is first mapped to an interval:

    q = 2 K / (a + K)            2 at a = 0, and 0 at infinity; K = 4
    m(a) = q P(q - 1)

P interpolates m / q at Chebyshev nodes of the a below 38.7 in float64, and 14.5 in float32. Beyond them phi is 0. The
coefficients were found with 30 digits; the relative error of P is below 4e-17 in float64, and 2e-8 in float32.

Then Phi(x) is 1 - Phi(-a) for x > 0, and Phi(-a) else. No two numbers are subtracted that are almost equal, so tiny
probabilities have their digits too. Example: Phi(-10) = 7.619853e-24, where (1 + erf(-10 / sqrt(2))) / 2 is 0.
"""

import math

import numpy as np

from ddp_numpy.nn.context import Array

_K = 4.0
_DENSITY = 1 / math.sqrt(2 * math.pi)

# Coefficients of P by float size in bytes, the highest power first.
_P: dict[int, tuple[float, ...]] = {
    4: (
        *(3.853413233e-05, 6.10369785e-05, -4.917107443e-04, -1.104036295e-03, 2.358490589e-03),
        *(1.892707063e-02, 5.844298006e-02, 1.213009685e-01, 1.904713526e-01, 2.366523854e-01),
    ),
    8: (
        *(-2.9917881391961554e-10, -3.096709499867302071e-11, 4.357962730396074648e-09, -4.542103049774696115e-09),
        *(-2.39363526687437964e-08, 4.830064976682892372e-08, 8.263368061028462227e-08, -3.195085969173578778e-07),
        *(-1.958859850894260636e-07, 1.854546711883417269e-06, 2.240390849701622028e-07, -1.101167167301932409e-05),
        *(-5.977912973351874614e-07, 7.24086001945569308e-05, 4.178056008555549257e-05, -5.109819521031838337e-04),
        *(-1.090286907819208462e-03, 2.362556357149416314e-03, 1.892397028898918942e-02, 5.844262037480964931e-02),
        *(1.213011943584497466e-01, 1.9047136385249776e-01, 2.366523829135606665e-01),
    ),
}
SCRATCH = 2


def cdf_and_density(X: Array, cdf: Array, density: Array, scratch: Array) -> None:
    """X (n,) -> Phi(X) in cdf (n,) and phi(X) in density (n,). scratch: (SCRATCH, n), overwritten.

    All arrays are float32, or all float64. X^2 may overflow to infinity: then phi is 0, as it should be.
    """
    first, second, *rest = _P[cdf.dtype.itemsize]
    q, u = scratch
    np.multiply(X, X, out=density)
    density *= -0.5
    np.exp(density, out=density)
    density *= _DENSITY
    np.abs(X, out=q)
    q += _K
    np.divide(2 * _K, q, out=q)
    np.subtract(q, 1, out=u)
    np.multiply(u, first, out=cdf)
    cdf += second
    for coefficient in rest:  # Horner's rule: ((c2 u) + c1) u + c0
        cdf *= u
        cdf += coefficient
    cdf *= q
    cdf *= density  # now Phi(-|x|)
    # With h = 1 if x > 0, else 0: Phi(x) = h + (1 - 2 h) Phi(-|x|). In half the time of np.copysign.
    h, sign, positive = q, u, u.view(np.bool_)[: len(u)]
    np.greater(X, 0, out=positive)
    np.copyto(h, positive)
    np.multiply(h, -2, out=sign)
    sign += 1
    cdf *= sign
    cdf += h
