"""How a search draws its points, when several workers and machines draw from one study."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from optuna.samplers import BaseSampler


class DrawnByNumber(BaseSampler):
    """Lets a sampler draw anew for every trial, from the seed and the trial's number alone.

    Every worker has a sampler of its own: with one seed for all, each would draw what the others
    draw, and a search that goes on after a stop would begin with the points that it has made.
    Numbers are given by the study, each once.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._inner = make(seed)

    def before_trial(self, study: Any, trial: Any) -> None:
        """A fresh sampler, which knows of earlier trials by the study."""
        self._inner = self._make(random.Random(f"{self._seed} {trial.number}").getrandbits(32))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        """As the sampler."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
        """As the sampler."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: Any
    ) -> Any:
        """As the sampler."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        """As the sampler."""
        self._inner.after_trial(study, trial, state, values)
