"""Layer maps: which teacher layers a student's layers are taught.

Layers are numbered 1..N everywhere: layer l is the output of block l, `hidden_states[l]`; 0 would
be the embeddings. The last layer is never matched: the logits already teach it.
"""

from __future__ import annotations

from pipeline.errors import ParamsError, did_you_mean

NAMED = ("finetune", "kd", "skip", "last")
UNMATCHED = ("finetune", "kd")  # no patient term


def layer_map(strategy: str, teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Teacher layer for each student layer 1..M-1, in order (Sun et al. 2019, section 3.2).

    Args:
        strategy: "skip" = every (N/M)-th layer, halves rounded up; "last" = the M-1 layers below
            the last; a list such as "2,4,6,8,10"; "finetune" and "kd" match none.
        teacher_layers: N >= 1.
        student_layers: M >= 1.

    Returns:
        M - 1 layers in 1..N-1; () when nothing is matched, as for M = 1.

    Raises:
        ParamsError: an unknown strategy, or a map that this teacher or student cannot have.
    """
    if strategy in UNMATCHED:
        return ()
    if strategy in NAMED:
        _require_teacher_as_deep(strategy, teacher_layers, student_layers)
    if strategy == "skip":
        return tuple(
            (2 * j * teacher_layers + student_layers) // (2 * student_layers)
            for j in range(1, student_layers)
        )
    if strategy == "last":
        return tuple(range(teacher_layers - student_layers + 1, teacher_layers))
    return _checked_list(parse_layers(strategy), teacher_layers, student_layers)


def parse_layers(text: str) -> tuple[int, ...]:
    """Parse "2,4,6"; raises ParamsError for anything else, suggesting the nearest strategy."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ParamsError(
            f"Unknown strategy `{text}`.{did_you_mean(text, NAMED)} "
            f"Expected {', '.join(NAMED)}, or teacher layers such as 2,4,6,8,10."
        ) from None


def _require_teacher_as_deep(strategy: str, teacher_layers: int, student_layers: int) -> None:
    if student_layers > teacher_layers:
        raise ParamsError(
            f"Strategy `{strategy}`: a student of {student_layers} layers is deeper than its "
            f"teacher of {teacher_layers}; lower --student-layers."
        )


def _checked_list(
    layers: tuple[int, ...], teacher_layers: int, student_layers: int
) -> tuple[int, ...]:
    if len(layers) != student_layers - 1:
        raise ParamsError(
            f"Strategy {_text(layers)}: expected {student_layers - 1} teacher layers, one for each "
            f"layer but the last of a student of {student_layers}, found {len(layers)}."
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
