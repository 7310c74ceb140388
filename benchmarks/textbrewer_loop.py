"""TextBrewer's own training loop (`GeneralDistiller.train`) on the models of the other contenders.

    pip install --no-deps textbrewer==0.2.1.post1 tensorboardX protobuf

It gets what the others have: autocast, optimizer, schedule and clipping, and the same terms
(cross-entropy, softened logits, squared distance of normalised [CLS] of the same layers). Used as
its documentation says, `with distiller:`, the teacher is in eval mode; it runs without gradients.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.batches import Rows
from pipeline.devices import autocast
from pipeline.training.loop import make_optimizer

if TYPE_CHECKING:
    from benchmarks.contenders import Ring, Way
    from benchmarks.turns import Loop

FOREVER = 10**9  # steps; the loop is left before


class Cast(nn.Module):
    """A model whose forward pass is in the precision of the run."""

    def __init__(self, model: Any, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model, self._device, self._precision = model, device, precision

    def forward(self, **inputs: Any) -> Any:
        """As the model's."""
        with autocast(self._device, self._precision):
            return self.model(**inputs)


def textbrewer_loop(ring: Ring, way: Way, batches: tuple[Rows, list[Tensor]]) -> Loop:
    """Raises ModuleNotFoundError where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = importlib.import_module("textbrewer")

    def loop(wait: Callable[[], None]) -> None:
        params = ring.params(way)
        student = Cast(ring.student.classifier(ring.device), ring.device, params.precision)
        distiller = _distiller(library, ring, way, student)
        optimizer, scheduler = make_optimizer(student, params, len(batches[1]))
        with distiller:
            distiller.train(
                optimizer, _Paced(batches, wait), scheduler=scheduler, num_steps=FOREVER,
                max_grad_norm=params.max_grad_norm, output_hidden_states=True,
            )  # fmt: skip

    return loop


def _distiller(library: Any, ring: Ring, way: Way, student: nn.Module) -> Any:
    params = ring.params(way)
    pairs = ring.strategy(params).pairs
    config = library.DistillationConfig(
        temperature=params.temperature, kd_loss_weight=params.alpha,
        hard_label_weight=1 - params.alpha,
        intermediate_matches=[
            {"layer_T": place, "layer_S": place, "feature": "hidden", "loss": "hidden_mse",
             "weight": params.beta / len(pairs)}
            for place in range(len(pairs))
        ],
    )  # fmt: skip
    training = library.TrainingConfig(
        device=ring.device, output_dir=str(ring.state), ckpt_steps=FOREVER
    )
    teacher = Cast(ring.teacher_model, ring.device, params.precision)
    adaptors = [_adaptor([pair[side] for pair in pairs]) for side in (1, 0)]
    return library.GeneralDistiller(training, config, teacher, student, *adaptors)


def _adaptor(layers: list[int]) -> Callable[[Any, Any], dict[str, Any]]:
    """Logits, loss of the labels, and normalised [CLS] of the layers."""

    def adapt(_: Any, output: Any) -> dict[str, Any]:
        cls = [output.hidden_states[layer][:, :1].float() for layer in layers]
        hidden = [nn.functional.normalize(each, dim=-1) for each in cls]
        return {"logits": output.logits.float(), "losses": output.loss, "hidden": hidden}

    return adapt


class _Paced:
    """Batches as a data loader gives them; each is asked for when the step before has ended."""

    def __init__(self, batches: tuple[Rows, list[Tensor]], wait: Callable[[], None]) -> None:
        self._rows, self._order = batches
        self._wait = wait

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        lengths = self._rows.lengths_N.cpu()
        for batch in self._order:
            self._wait()
            here = batch.to(self._rows.labels_N.device)
            inputs = self._rows.batch(here, int(lengths[batch].max()))
            yield inputs | {"labels": self._rows.labels_N[here]}
