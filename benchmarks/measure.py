"""Probes compared with scikit-learn, and balanced assignment of a million samples in little memory, in one run.

    python benchmarks/measure.py                # all, about a quarter of an hour on one core
    python benchmarks/measure.py --only knn,linear

k-NN and the linear probe: 50,000 features of length 512, the same objective; the result must be equal or better, then seconds count. The
limit of k-NN is the matrix product of queries and samples; that of the linear probe is the same number of passes (logits and their
gradient) as the solver makes. Support vector machines: liblinear through scikit-learn, every class and cost. Balanced assignment: a million
samples and 3,000 clusters, whose scores (24 GB in double precision) are never stored; the reference is the published loop on as many
samples as fit in memory. Peak memory is the total of a separate process.
"""

import argparse
import json
import resource
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.origin import origin
from selfsight.measure.probes.knn import vote
from selfsight.measure.probes.linear import fit_probe
from selfsight.measure.probes.svm import fit_machines
from selfsight.objectives.assign import balanced_assignment_in_chunks, transport_plan

RESULTS = Path(__file__).parent / "results" / "measure.json"
SAMPLES, DIM, CLASSES, QUERIES = 50_000, 512, 10, 5_000
MANY, CLUSTERS, NARROW, HELD = 1_000_000, 3_000, 128, 20_000
ROUNDS = 10


def data(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes with decreasing variance of directions, similar to features."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, CLASSES, count)
    centres = np.random.default_rng(7).standard_normal((CLASSES, DIM)) * 0.2
    spread = np.arange(1, DIM + 1) ** -0.5
    return ((centres[labels] + chance.standard_normal((count, DIM))) * spread).astype(np.float32), labels


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def knn(rounds: int) -> dict[str, float]:
    """k-NN with twenty neighbours."""
    (train, labels), (test, _) = data(SAMPLES, 0), data(QUERIES, 1)
    unit, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, test))
    theirs = KNeighborsClassifier(20, weights=lambda far: np.exp((1 - far**2 / 2) / 0.07), algorithm="brute").fit(unit, labels)
    best, guesses = {"ours": np.inf, "product": np.inf, "scikit_learn": np.inf}, {}
    bank, given = torch.from_numpy(unit), torch.from_numpy(asked)
    useful: dict[str, Callable[[], Any]] = {
        "ours": lambda: vote(train, labels, test),
        "product": lambda: [part @ bank.T for part in given.split(1024)],
        "scikit_learn": lambda: theirs.predict(asked),
    }
    for _ in range(rounds):
        for name, work in useful.items():
            seconds, guesses[name] = timed(work)
            best[name] = min(best[name], seconds)
    return told(best, "product") | {"same_votes": float((guesses["ours"] == guesses["scikit_learn"]).mean())}


def told(best: dict[str, float], limit: str) -> dict[str, float]:
    """Seconds, speed relative to the reference, and fraction of the speed of the limit."""
    ratios = {"times_scikit_learn": round(best["scikit_learn"] / best["ours"], 2), "of_limit": round(best[limit] / best["ours"], 2)}
    return {f"{name}_s": round(seconds, 3) for name, seconds in best.items()} | ratios


def loss(weight: np.ndarray, bias: np.ndarray, rows: torch.Tensor, labels: torch.Tensor, penalty: float) -> float:
    """Mean cross-entropy and the penalty, in double precision."""
    w, b = torch.from_numpy(np.asarray(weight, np.float64)), torch.from_numpy(np.asarray(bias, np.float64))
    return float(cross_entropy(rows.double() @ w.T + b, labels) + penalty / 2 * w.square().sum())


def linear(penalty: float) -> dict[str, float]:
    """Multinomial logistic regression; scikit-learn with its default tolerance and with a small one."""
    train, labels = data(SAMPLES, 0)
    x, y = torch.from_numpy(train), torch.from_numpy(labels)
    calls = [0]
    original = torch.optim.LBFGS.step

    def counted(self: Any, closure: Callable[[], Any]) -> Any:
        def count() -> Any:
            calls[0] += 1
            return closure()

        return original(self, count)

    fit_probe(train, labels, CLASSES, penalty, standardise=False, rounds=3)  # warm-up of memory and threads for both
    LogisticRegression(C=1 / (penalty * SAMPLES), max_iter=3, tol=1e9).fit(train, labels)
    torch.optim.LBFGS.step = counted
    ours_s, ours = timed(lambda: fit_probe(train, labels, CLASSES, penalty, standardise=False))
    torch.optim.LBFGS.step = original
    weight = torch.zeros(CLASSES, DIM)
    residual = torch.zeros(SAMPLES, CLASSES)
    limit_s, _ = timed(lambda: [(x @ weight.T, residual.T @ x) for _ in range(calls[0])])
    found: dict[str, float] = {"penalty": penalty, "ours_objective": loss(ours.weight.numpy(), ours.bias.numpy(), x, y, penalty)}
    for name, tolerance in (("default", 1e-4), ("tight", 1e-7)):
        model = LogisticRegression(C=1 / (penalty * SAMPLES), tol=tolerance, max_iter=5000)
        seconds, theirs = timed(lambda model=model: model.fit(train, labels))
        found[f"scikit_learn_{name}_s"] = round(seconds, 2)
        found[f"scikit_learn_{name}_objective"] = loss(theirs.coef_, theirs.intercept_, x, y, penalty)
        found[f"times_scikit_learn_{name}"] = round(seconds / ours_s, 2)
    return found | {"ours_s": round(ours_s, 2), "passes": calls[0], "of_limit": round(limit_s / ours_s, 2)}


def svm(cost: float) -> dict[str, float]:
    """Ten machines on 5,000 samples; objectives in double precision."""
    train, labels = data(5_000, 0)
    rows = normalize(torch.from_numpy(train).double())
    positive = torch.from_numpy(labels)[:, None] == torch.arange(CLASSES)
    ours_s, ours = timed(lambda: fit_machines(rows, positive, cost))
    theirs_s, worse = 0.0, []
    for machine in range(CLASSES):
        sign = np.where(positive[:, machine].numpy(), 1, -1)
        model = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=20_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # liblinear warns if it has not converged; the objective shows it too
            seconds, model = timed(lambda model=model, sign=sign: model.fit(rows.numpy(), sign))
        theirs_s += seconds
        weight, bias = model.coef_[0], float(model.intercept_[0])
        short = np.maximum(0, 1 - sign * (rows.numpy() @ weight + bias))
        value = (weight @ weight + bias**2) / 2 + cost * (np.where(sign > 0, 2, 1) * short**2).sum()
        worse.append(value / float(ours.objective[machine]) - 1)
    return {
        "cost": cost,
        "ours_s": round(ours_s, 3),
        "scikit_learn_s": round(theirs_s, 3),
        "times_scikit_learn": round(theirs_s / ours_s, 2),
        "scikit_learn_above_ours": float(f"{max(worse):.1e}"),
        "ours_above_optimum_at_most": float(f"{float((ours.above / ours.objective).max()):.1e}"),
    }


def clouds(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit-length features and the directions of clusters."""
    generator = torch.Generator().manual_seed(0)
    heads = normalize(torch.randn(CLUSTERS, NARROW, generator=generator))
    rows = torch.empty(count, NARROW)
    for part in rows.split(65_536):
        near = heads[torch.randint(CLUSTERS, (len(part),), generator=generator)]
        part.copy_(normalize(near + 0.15 * torch.randn(len(part), NARROW, generator=generator)))
    return rows, heads


def published(log: torch.Tensor, rounds: int, sharpness: float) -> np.ndarray:
    """The loop of Asano et al. 2019, float64, on the table of probabilities."""
    powers = np.exp(sharpness * log.double().numpy()).T
    rows, columns = np.full((CLUSTERS, 1), 1 / CLUSTERS), np.full((log.shape[0], 1), 1 / log.shape[0])
    for _ in range(rounds):
        rows = (1 / CLUSTERS) / (powers @ columns)
        columns = (1 / log.shape[0]) / (rows.T @ powers).T
    powers *= rows
    powers *= columns.T
    return powers.argmax(0)


def held() -> dict[str, float]:
    """Ten iterations on scores that fit in memory: selfsight in chunks, selfsight on the table, and the published loop."""
    rows, heads = clouds(HELD)
    shares, log = torch.full((CLUSTERS,), 1 / CLUSTERS), (5 * rows @ heads.T).log_softmax(1)
    exact = {"sharpness": 5.0, "tolerance": 0.0, "most": ROUNDS}
    parts_s, parts = timed(lambda: balanced_assignment_in_chunks(lambda some: 5 * rows[some] @ heads.T, HELD, shares, wrong=1.0, **exact))
    table_s, table = timed(lambda: transport_plan(log, shares, **exact).argmax(1))
    published_s, labels = timed(lambda: published(log, ROUNDS, 5.0))
    return {
        "samples": HELD,
        "in_parts_s": round(parts_s, 2),
        "table_s": round(table_s, 2),
        "published_s": round(published_s, 2),
        "published_over_parts": round(published_s / parts_s, 2),
        "same_labels_as_table": float((parts.labels == table).double().mean()),
        "same_labels_as_published": float((parts.labels.numpy() == labels).mean()),
    }


def many(count: int, threads: int) -> dict[str, float]:
    """A million samples, in a separate process."""
    torch.set_num_threads(threads)
    rows, heads = clouds(count)
    shares = torch.full((CLUSTERS,), 1 / CLUSTERS)
    product_s, _ = timed(lambda: [float((part @ heads.T)[0, 0]) for part in rows.split(1024)])  # none is stored
    seconds, found = timed(
        lambda: balanced_assignment_in_chunks(
            lambda some: rows[some] @ (5 * heads).T, count, shares, sharpness=5.0, tolerance=0.05, most=ROUNDS
        )
    )
    return {
        "samples": count,
        "seconds": round(seconds, 1),
        "rounds": found.rounds,
        "seconds_a_round": round(seconds / found.rounds, 2),
        "bare_product_s": round(product_s, 2),
        "of_limit": round(product_s / (seconds / found.rounds), 2),
        "wrong": round(found.wrong, 4),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def alone(count: int) -> dict[str, float]:
    """``many`` in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(many, (count, torch.get_num_threads()))


def main() -> None:
    """Compare and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="knn,linear,svm,held,many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=MANY)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    about = origin({"device": "cpu", "precision": "fp32", "compile": False, "threads": torch.get_num_threads()})
    result: dict[str, object] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    useful: dict[str, Callable[[], object]] = {
        "knn": lambda: knn(options.rounds),
        "linear": lambda: [linear(penalty) for penalty in (1e-2, 1e-4)],
        "svm": lambda: [svm(cost) for cost in (1.0, 100.0)],
        "held": held,
        "many": lambda: alone(options.many),
    }
    for name in options.only.split(","):
        result[name] = useful[name]()
        print(name, result[name], flush=True)
    result["origin"] = about
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
