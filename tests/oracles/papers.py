"""The papers again, slowly: nested loops over Python floats, double precision, no tricks."""

from math import exp, log, sqrt

Rows = list[list[float]]


def dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(x: list[float]) -> list[float]:
    size = sqrt(dot(x, x))
    return [a / size for a in x]


def cosine(x: list[float], y: list[float]) -> float:
    return dot(x, y) / sqrt(dot(x, x) * dot(y, y))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def info_nce(query: Rows, key: Rows, temperature: float, negatives: Rows | None = None) -> float:
    """van den Oord et al. 2018, eq. 4; He et al. 2019, eq. 1."""
    losses = []
    for i, q in enumerate(query):
        own = exp(cosine(q, key[i]) / temperature)
        others = [key[j] for j in range(len(key)) if j != i] if negatives is None else negatives
        losses.append(-log(own / (own + sum(exp(cosine(q, k) / temperature) for k in others))))
    return mean(losses)


def nt_xent(left: Rows, right: Rows, temperature: float) -> float:
    """Chen et al. 2020, eq. 1 and algorithm 1."""
    views = left + right
    count = len(left)
    losses = []
    for i, anchor in enumerate(views):
        partner = views[i + count] if i < count else views[i - count]
        below = sum(exp(cosine(anchor, views[k]) / temperature) for k in range(2 * count) if k != i)
        losses.append(-log(exp(cosine(anchor, partner) / temperature) / below))
    return mean(losses)


def cosine_distance(guess: Rows, target: Rows) -> float:
    """Grill et al. 2020, eq. 2: the squared distance of the unit vectors."""
    return mean([sum((a - b) ** 2 for a, b in zip(unit(g), unit(t), strict=True)) for g, t in zip(guess, target, strict=True)])


def soft_cross_entropy(logits: Rows, target: Rows) -> float:
    losses = []
    for row, share in zip(logits, target, strict=True):
        below = sum(exp(value) for value in row)
        losses.append(-sum(p * log(exp(value) / below) for p, value in zip(share, row, strict=True)))
    return mean(losses)


def correlation_to_identity(left: Rows, right: Rows, off_diagonal: float) -> float:
    """Zbontar et al. 2021, eqs. 1 and 2, on columns less their means."""

    def column(rows: Rows, j: int) -> list[float]:
        values = [row[j] for row in rows]
        return [value - mean(values) for value in values]

    loss = 0.0
    for i in range(len(left[0])):
        for j in range(len(right[0])):
            a, b = column(left, i), column(right, j)
            correlation = dot(a, b) / sqrt(dot(a, a) * dot(b, b))
            loss += (1 - correlation) ** 2 if i == j else off_diagonal * correlation**2
    return loss


def sinkhorn(scores: Rows, epsilon: float, rounds: int) -> Rows:
    """Caron et al. 2020, the published code: alternately equal clusters and equal samples, then rows that sum to one."""
    table = [[exp(value / epsilon) for value in row] for row in scores]
    samples, clusters = len(table), len(table[0])
    for _ in range(rounds):
        sums = [sum(table[i][k] for i in range(samples)) for k in range(clusters)]
        table = [[table[i][k] / sums[k] / clusters for k in range(clusters)] for i in range(samples)]
        table = [[value / sum(row) / samples for value in row] for row in table]
    return [[value * samples for value in row] for row in table]


def patches(image: list[Rows], side: int) -> Rows:
    """image[channel][row][column], cut into squares in reading order; values as row, column, channel."""
    height, width = len(image[0]), len(image[0][0])
    found = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            found.append([plane[top + y][left + x] for y in range(side) for x in range(side) for plane in image])
    return found


def standard(patch: list[float]) -> list[float]:
    """He et al. 2021, section 3: less its mean, over its deviation (unbiased, as published)."""
    centre = mean(patch)
    variance = sum((value - centre) ** 2 for value in patch) / (len(patch) - 1)
    return [(value - centre) / sqrt(variance + 1e-6) for value in patch]


def masked_mse(guess: list[Rows], target: list[Rows], hidden: list[list[bool]]) -> float:
    """The mean over all hidden patches of the mean squared error."""
    errors = []
    for painted, wanted, mask in zip(guess, target, hidden, strict=True):
        for p, w, masked in zip(painted, wanted, mask, strict=True):
            if masked:
                errors.append(mean([(a - b) ** 2 for a, b in zip(p, w, strict=True)]))
    return mean(errors)


def embedding_spread(rows: Rows) -> float:
    """Chen & He 2020, figure 2, times the root of the dimension."""
    units = [unit(row) for row in rows]
    deviations = []
    for j in range(len(rows[0])):
        values = [row[j] for row in units]
        deviations.append(sqrt(mean([(value - mean(values)) ** 2 for value in values])))
    return mean(deviations) * sqrt(len(rows[0]))


def alignment(left: Rows, right: Rows, power: float) -> float:
    """Wang & Isola 2020, section 4.1."""
    return mean([sqrt(sum((a - b) ** 2 for a, b in zip(unit(x), unit(y), strict=True))) ** power for x, y in zip(left, right, strict=True)])


def uniformity(rows: Rows, sharpness: float) -> float:
    """Wang & Isola 2020, section 4.1: over pairs of different rows."""
    units = [unit(row) for row in rows]
    pairs = []
    for i in range(len(units)):
        for j in range(i):
            pairs.append(exp(-sharpness * sum((a - b) ** 2 for a, b in zip(units[i], units[j], strict=True))))
    return log(mean(pairs))


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def tell_apart(real: list[float], fake: list[float]) -> float:
    """Goodfellow et al. 2014, algorithm 1, as a loss."""
    return -mean([log(sigmoid(value)) for value in real]) - mean([log(1 - sigmoid(value)) for value in fake])


def deceive(fake: list[float]) -> float:
    """Goodfellow et al. 2014, section 3: maximise log D(G(z))."""
    return -mean([log(sigmoid(value)) for value in fake])
