"""Reference implementations of the papers: nested loops over Python floats in double precision."""

from cmath import exp as cexp
from itertools import pairwise
from math import exp, log, pi, sqrt

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


def counting(parts: Rows, whole: Rows, other: Rows, margin: float) -> float:
    """Noroozi et al. 2017, eq. 4."""

    def apart(x: list[float], y: list[float]) -> float:
        return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))

    return mean([apart(w, p) + max(0.0, margin - apart(o, p)) for p, w, o in zip(parts, whole, other, strict=True)])


def soft_cross_entropy(logits: Rows, target: Rows) -> float:
    losses = []
    for row, share in zip(logits, target, strict=True):
        below = sum(exp(value) for value in row)
        losses.append(-sum(p * log(exp(value) / below) for p, value in zip(share, row, strict=True)))
    return mean(losses)


def correlation_to_identity(left: Rows, right: Rows, off_diagonal: float) -> float:
    """Zbontar et al. 2021, eqs. 1 and 2, on centred columns."""

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


def masked_cross_entropy(logits: Rows, target: Rows, hidden: list[list[bool]]) -> float:
    """Zhou et al. 2021, eq. 2: rows of patches, image after image."""
    losses, row = [], 0
    for mask in hidden:
        own = []
        for masked in mask:
            own += [soft_cross_entropy([logits[row]], [target[row]])] if masked else []
            row += 1
        losses.append(mean(own) if own else 0.0)
    return mean(losses)


def variance(values: list[float]) -> float:
    """Unbiased."""
    return sum((value - mean(values)) ** 2 for value in values) / (len(values) - 1)


def variance_hinge(rows: Rows, wanted: float = 1.0) -> float:
    """Bardes et al. 2021, eqs. 1 and 2."""
    return mean([max(0.0, wanted - sqrt(variance([row[j] for row in rows]) + 1e-4)) for j in range(len(rows[0]))])


def covariance_energy(rows: Rows) -> float:
    """Bardes et al. 2021, eqs. 3 and 4."""
    columns = [[row[j] - mean([other[j] for other in rows]) for row in rows] for j in range(len(rows[0]))]
    pairs = [(a, b) for i, a in enumerate(columns) for j, b in enumerate(columns) if i != j]
    return sum((dot(a, b) / (len(rows) - 1)) ** 2 for a, b in pairs) / len(columns)


def mutual_information(left: Rows, right: Rows) -> float:
    """Ji et al. 2018, eq. 3, on the symmetric joint distribution of eq. 2."""
    clusters = range(len(left[0]))
    joint = [[mean([x[a] * y[b] for x, y in zip(left, right, strict=True)]) for b in clusters] for a in clusters]
    joint = [[(joint[a][b] + joint[b][a]) / 2 for b in clusters] for a in clusters]
    share = [sum(row) for row in joint]
    return sum(joint[a][b] * log(joint[a][b] / (share[a] * share[b])) for a in clusters for b in clusters)


def binary_nce(own: list[float], others: Rows, log_partition: float, samples: int) -> float:
    """Wu et al. 2018, eqs. 4 to 7, uniform noise."""

    def posterior(score: float, noise: int) -> float:
        probability = exp(score) / exp(log_partition)
        return probability / (probability + noise / samples)

    return mean(
        [
            -log(posterior(score, len(row))) - sum(log(1 - posterior(other, len(row))) for other in row)
            for score, row in zip(own, others, strict=True)
        ]
    )


def transport_plan(probabilities: Rows, shares: list[float], sharpness: float, rounds: int) -> Rows:
    """Asano et al. 2019, eq. 8: scale columns to their shares and rows to 1 / N, alternately."""
    table = [[value**sharpness for value in row] for row in probabilities]
    count = len(table)
    table = [[value / sum(row) / count for value in row] for row in table]
    for _ in range(rounds):
        sums = [sum(row[k] for row in table) for k in range(len(shares))]
        table = [[row[k] * shares[k] / sums[k] for k in range(len(shares))] for row in table]
        table = [[value / sum(row) / count for value in row] for row in table]
    return table


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
    """He et al. 2021, section 3: minus its mean, divided by its deviation (unbiased, as published)."""
    centre = mean(patch)
    variance = sum((value - centre) ** 2 for value in patch) / (len(patch) - 1)
    return [(value - centre) / sqrt(variance + 1e-6) for value in patch]


def masked_error(guess: list[Rows], target: list[Rows], hidden: list[list[bool]], power: int) -> float:
    """The mean over all hidden patches of the mean absolute (1) or squared (2) error."""
    errors = []
    for painted, wanted, mask in zip(guess, target, hidden, strict=True):
        for p, w, masked in zip(painted, wanted, mask, strict=True):
            if masked:
                errors.append(mean([abs(a - b) ** power for a, b in zip(p, w, strict=True)]))
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


def discriminator_loss(real: list[float], fake: list[float]) -> float:
    """Goodfellow et al. 2014, algorithm 1, as a loss."""
    return -mean([log(sigmoid(value)) for value in real]) - mean([log(1 - sigmoid(value)) for value in fake])


def generator_loss(fake: list[float]) -> float:
    """Goodfellow et al. 2014, section 3: maximise log D(G(z))."""
    return -mean([log(sigmoid(value)) for value in fake])


def gaussian_likelihood(target: Rows, centre: Rows, log_deviation: float) -> float:
    """The logarithm of the normal density, element by element, in nats."""
    width = exp(log_deviation)
    density = [
        [-(((a - b) / width) ** 2) / 2 - log(width * sqrt(2 * pi)) for a, b in zip(x, y, strict=True)]
        for x, y in zip(target, centre, strict=True)
    ]
    return mean([sum(row) for row in density])


def normal_divergence(centre: Rows, log_variance: Rows) -> float:
    """Kingma & Welling 2013, appendix B."""
    return mean([sum(-(1 + v - m**2 - exp(v)) / 2 for m, v in zip(x, y, strict=True)) for x, y in zip(centre, log_variance, strict=True)])


def supervised_contrastive(rows: Rows, labels: list[int], temperature: float) -> float:
    """Khosla et al. 2020, eq. 2: the sum over positives outside the logarithm."""
    losses = []
    for i, anchor in enumerate(rows):
        others = [k for k in range(len(rows)) if k != i]
        below = sum(exp(cosine(anchor, rows[k]) / temperature) for k in others)
        alike = [k for k in others if labels[k] == labels[i]]
        losses.append(-mean([log(exp(cosine(anchor, rows[k]) / temperature) / below) for k in alike]))
    return mean(losses)


def jensen_shannon_pairs(scores: Rows, alike: list[list[bool]]) -> float:
    """Hjelm et al. 2018, eq. 4, as a loss."""
    pairs = [(score, same) for row, flags in zip(scores, alike, strict=True) for score, same in zip(row, flags, strict=True)]
    own = mean([log(1 + exp(-score)) for score, same in pairs if same])
    return own + mean([log(1 + exp(score)) for score, same in pairs if not same])


def nearest_spread(rows: Rows) -> float:
    """Sablayrolles et al. 2018: the logarithm of the distance to the nearest other row."""
    units = [unit(row) for row in rows]

    def apart(x: list[float], y: list[float]) -> float:
        return sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))

    return -mean([log(min(apart(x, y) for j, y in enumerate(units) if j != i) + 1e-8) for i, x in enumerate(units)])


def gaussianity(rows: Rows, directions: Rows) -> float:
    """Balestriero & LeCun 2025, with complex numbers, over both signs of the knots of the released code, 17 in [0, 3]."""
    knots = [3 * step / 16 for step in range(-16, 17)]
    statistics = []
    for direction in directions:
        heights = []
        for knot in knots:
            normal = exp(-(knot**2) / 2)
            characteristic = sum(cexp(1j * knot * dot(row, direction)) for row in rows) / len(rows)
            heights.append(abs(characteristic - normal) ** 2 * normal)
        area = sum((a + b) / 2 * 3 / 16 for a, b in pairwise(heights))
        statistics.append(len(rows) * area)
    return mean(statistics)


def gradient_penalty(gradient: Rows) -> float:
    """Gulrajani et al. 2017, eq. 3."""
    return mean([(sqrt(dot(row, row)) - 1) ** 2 for row in gradient])


def concentrations(rows: Rows, labels: list[int], centroids: Rows, temperature: float) -> list[float]:
    """Li et al. 2020, concentration estimation, without the percentiles (for clusters that none of them touches)."""
    widths = []
    for number, centre in enumerate(centroids):
        own = [row for row, label in zip(rows, labels, strict=True) if label == number]
        far = sum(sqrt(sum((a - b) ** 2 for a, b in zip(row, centre, strict=True))) for row in own)
        widths.append(far / (len(own) * log(len(own) + 10)))
    return [temperature * width / mean(widths) for width in widths]


def weighted_mse(guess: Rows, target: Rows, weight: Rows) -> float:
    """The mean over images of the weighted mean of squared errors."""
    losses = []
    for g, t, w in zip(guess, target, weight, strict=True):
        losses.append(sum(c * (a - b) ** 2 for a, b, c in zip(g, t, w, strict=True)) / sum(w))
    return mean(losses)


def neighbour_consistency(one: Rows, other: Rows, balance: float) -> float:
    """Van Gansbeke et al. 2020, eq. 2."""
    agreed = mean([log(dot(p, q)) for p, q in zip(one, other, strict=True)])
    shares = [mean([row[c] for row in one]) for c in range(len(one[0]))]
    return -agreed + balance * sum(share * log(share) for share in shares)


def soft_bins(values: Rows, middles: Rows, nearest: int, sigma: float) -> Rows:
    """Zhang et al. 2016, section 2.2."""
    found = []
    for value in values:
        squared = [sum((a - b) ** 2 for a, b in zip(value, middle, strict=True)) for middle in middles]
        chosen = sorted(range(len(middles)), key=lambda k, squared=squared: squared[k])[:nearest]
        weights = [exp(-squared[k] / (2 * sigma**2)) if k in chosen else 0.0 for k in range(len(middles))]
        found.append([weight / sum(weights) for weight in weights])
    return found


def rebalancing(shares: list[float], mix: float) -> list[float]:
    """Zhang et al. 2016, eq. 4."""
    raw = [1 / ((1 - mix) * share + mix / len(shares)) for share in shares]
    expectation = sum(share * weight for share, weight in zip(shares, raw, strict=True))
    return [weight / expectation for weight in raw]


def instance_discrimination(rows: Rows, bank: Rows, index: list[int], temperature: float) -> float:
    """Wu et al. 2018, eq. 2: every stored sample occurs once in the sum, including the row's own."""
    losses = []
    for row, own in zip(rows, index, strict=True):
        scores = [exp(dot(unit(row), known) / temperature) for known in bank]
        losses.append(-log(scores[own] / sum(scores)))
    return mean(losses)
