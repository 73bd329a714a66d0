"""Scores of uncertainty, word for word, in plain Python."""

from __future__ import annotations

import math


def softmax(logits):
    top = max(logits)
    powers = [math.exp(value - top) for value in logits]
    return [power / math.fsum(powers) for power in powers]


def least_confidence(logits):
    return 1 - max(softmax(logits))


def margin(logits):
    second, first = sorted(softmax(logits))[-2:]
    return first - second


def entropy(probabilities):
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0)


def loss(logits, target):
    return -math.log(softmax(logits)[target])


def mutual_information(members):
    """`members`: for each member the probabilities of one sample."""
    mean = [math.fsum(column) / len(members) for column in zip(*members)]
    return entropy(mean) - math.fsum(entropy(member) for member in members) / len(members)


def variation_ratio(members):
    votes = [max(range(len(member)), key=member.__getitem__) for member in members]
    return 1 - max(votes.count(vote) for vote in votes) / len(votes)
