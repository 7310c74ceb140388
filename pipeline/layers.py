"""Layer maps: which teacher layers a student's layers are taught.

Layers are numbered 1..N everywhere: layer l is the output of block l, `hidden_states[l]`; 0 would
be the embeddings. The last layer is never matched: the logits already teach it.
"""

from __future__ import annotations

import random

from pipeline.errors import ParamsError, did_you_mean

UNMATCHED = ("finetune", "kd")  # no patient term
MAPPED = ("skip", "last", "reverse", "shuffled", "all-to-one")
NAMED = (*UNMATCHED, *MAPPED)


def layer_map(
    strategy: str,
    teacher_layers: int,
    student_layers: int,
    *,
    match_top: int | None = None,
    seed: int = 0,
    counted: str = "layers",
) -> tuple[int, ...]:
    """Teacher layer for each student layer 1, 2, ..., in order (Sun et al. 2019, section 3.2).

    Args:
        strategy: "skip" = every (N/M)-th layer, halves rounded up; "last" = the M-1 layers below
            the last; a list such as "2,4,6,8,10"; "finetune" and "kd" match none. Controls, made
            of the layers of skip: "reverse" = in descending order, "shuffled" = in an order drawn
            by `seed`, "all-to-one" = the deepest of them for every student layer.
        teacher_layers: N >= 1.
        student_layers: M >= 1.
        match_top: L in 1..N: the last student layer too is matched, to teacher layer L, and the
            map is that of a teacher of L layers (Liu et al. 2021, MUD: L < N).
        seed: of "shuffled".
        counted: what M counts, for errors: layers, or passes of shared ones.

    Returns:
        M - 1 layers in 1..N-1, () when nothing is matched, as for M = 1; with `match_top` M layers.

    Raises:
        ParamsError: an unknown strategy, or a map that this teacher or student cannot have.
    """
    if strategy in UNMATCHED:
        return ()
    if strategy not in NAMED:
        layers = parse_layers(strategy)
        if match_top is not None:
            raise ParamsError("--match-top makes the map; leave it out beside a list of layers.")
        return _checked_list(layers, teacher_layers, student_layers, counted)
    require_as_deep(strategy, teacher_layers, student_layers, counted)
    if match_top is not None:
        _require_top(match_top, teacher_layers, student_layers, counted)
    depth = match_top or teacher_layers
    matched = student_layers if match_top else student_layers - 1
    if strategy == "last":
        return tuple(range(depth - student_layers + 1, depth - student_layers + 1 + matched))
    skip = [_rounded(j * depth, student_layers) for j in range(1, matched + 1)]
    return tuple(_controlled(strategy, skip, seed))


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _controlled(strategy: str, skip: list[int], seed: int) -> list[int]:
    """The layers of skip in the order of a control; another order than theirs where there is."""
    match strategy:
        case "reverse":
            return skip[::-1]
        case "all-to-one":
            return skip[-1:] * len(skip)
        case "shuffled":
            draw, order = random.Random(seed), list(skip)
            while len(skip) > 1 and order == skip:
                draw.shuffle(order)
            return order
    return skip


def parse_layers(text: str) -> tuple[int, ...]:
    """Parse "2,4,6"; raises ParamsError for anything else, suggesting the nearest strategy."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ParamsError(
            f"Unknown strategy `{text}`.{did_you_mean(text, NAMED)} "
            f"Expected {', '.join(NAMED)}, or teacher layers such as 2,4,6,8,10."
        ) from None


def require_as_deep(
    strategy: str, teacher_layers: int, student_layers: int, counted: str = "layers"
) -> None:
    """Refuse a student of more layers (or whatever is `counted`) than its teacher: ParamsError."""
    if student_layers > teacher_layers:
        raise ParamsError(
            f"Strategy `{strategy}`: a student of {student_layers} {counted} is deeper than its "
            f"teacher of {teacher_layers}; lower --student-layers."
        )


def _require_top(match_top: int, teacher_layers: int, student_layers: int, counted: str) -> None:
    """Refuse a top that is no layer, or below which a student has not a layer for each of its."""
    if not 1 <= match_top <= teacher_layers:
        raise ParamsError(f"--match-top {match_top}: the teacher has layers 1..{teacher_layers}.")
    if student_layers > match_top:
        raise ParamsError(
            f"--match-top {match_top}: too low for a student of {student_layers} {counted}, "
            f"each of which learns a layer of its own; expected {student_layers}..{teacher_layers}."
        )


def _checked_list(
    layers: tuple[int, ...], teacher_layers: int, student_layers: int, counted: str
) -> tuple[int, ...]:
    if len(layers) != student_layers - 1:
        raise ParamsError(
            f"Strategy {_text(layers)}: expected {student_layers - 1} teacher layers, one for each "
            f"but the last of the student's {student_layers} {counted}, found {len(layers)}."
        )
    for layer in layers:
        if not 1 <= layer < teacher_layers:
            why = " (the last one is taught by the logits)" if layer == teacher_layers else ""
            raise ParamsError(
                f"Strategy {_text(layers)}: layer {layer} cannot be matched; the teacher has "
                f"layers 1..{teacher_layers}, of which 1..{teacher_layers - 1} can be{why}."
            )
    return layers


def _text(layers: tuple[int, ...]) -> str:
    return ",".join(str(layer) for layer in layers)
