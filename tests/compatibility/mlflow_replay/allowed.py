"""Differences that are meant, each with its reason. A rule that explains nothing is a failure too."""

from dataclasses import dataclass
from typing import Callable


@dataclass
class Rule:
    reason: str
    holds: Callable


ALLOWED = []


def rule(reason):
    def keep(function):
        ALLOWED.append(Rule(reason, function))
        return function
    return keep
