"""Recomputes the numbers of a report with scikit-learn: python metrics.py PREDICTIONS.csv REPORT.html

PREDICTIONS.csv is written by `eval --predictions`, REPORT.html by `report`. Every number of the page's tables about predictions must be
that of scikit-learn, to the printed digits.
"""
import csv
import sys
from html.parser import HTMLParser

import numpy as np
from sklearn import metrics


class Tables(HTMLParser):
    """The cells of all tables, by the text of their first heading."""

    def __init__(self):
        super().__init__()
        self.tables, self.cell = [], None

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def expected_calibration_error(confidence, correct, bins=15):
    edges = np.linspace(0, 1, bins + 1)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return error


def close(found, expected, what):
    assert abs(float(found) - expected) <= 0.5001e-4, f"{what}: the report has {found}, scikit-learn {expected}"


def main(predictions, report):
    rows = list(csv.DictReader(open(predictions, newline="")))
    truth = np.array([int(row["label"]) for row in rows])
    predicted = np.array([int(row["prediction"]) for row in rows])
    classes = sum(1 for name in rows[0] if name[0] == "p" and name[1:].isdigit())
    probabilities = np.array([[float(row[f"p{c}"]) for c in range(classes)] for row in rows])
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities.argmax(1) == predicted).all()
    names = {int(row["label"]): row["label_name"] for row in rows}
    parser = Tables()
    parser.feed(open(report).read())
    tables = {tuple(table[0]): table[1:] for table in parser.tables}

    summary = dict(tables[("metric", "value")])
    every = list(range(classes))
    close(summary["accuracy"], metrics.accuracy_score(truth, predicted), "accuracy")
    for k in (2, 3, 5):
        close(summary[f"top-{k} accuracy"], metrics.top_k_accuracy_score(truth, probabilities, k=k, labels=every), f"top {k}")
    normalized = probabilities / probabilities.sum(1, keepdims=True)
    close(summary["mean cross-entropy"], metrics.log_loss(truth, normalized, labels=every), "loss")
    error = expected_calibration_error(probabilities.max(1), truth == predicted)
    close(summary["expected calibration error"], error, "ECE")

    table = tables[("class", "precision", "recall", "F1 score", "images", "predicted")]
    found = metrics.precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    for c in every:
        assert table[c][0] == names[c]
        for i in range(3):
            close(table[c][i + 1], found[i][c], f"class {c}")
        assert int(table[c][4]) == found[3][c] and int(table[c][5]) == (predicted == c).sum()
    average = metrics.precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)
    for i in range(3):
        close(table[classes][i + 1], average[i], "macro average")

    matrix = tables[("class", *(names[c] for c in every))]
    counts = np.array([[0 if cell == "·" else int(cell) for cell in row[1:]] for row in matrix])
    assert (counts == metrics.confusion_matrix(truth, predicted, labels=every)).all(), counts
    print(f"{len(rows)} predictions of {classes} classes: accuracy {summary['accuracy']}, macro F1 {average[2]:.4f}, ECE {error:.4f}")


main(*sys.argv[1:])
