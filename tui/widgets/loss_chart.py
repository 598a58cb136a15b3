"""The loss of one run: training as a line, validation as diamonds."""

from __future__ import annotations

from typing import ClassVar

from engine.records import LossPoint
from tui.language import tr
from tui.widgets.axis import x_end
from tui.widgets.curve_chart import Curve, CurveChart, round_ends

TRAINING, VALIDATION = "loss-chart--training", "loss-chart--validation"


class LossChart(CurveChart):
    """Both losses of the followed run; before the first step, what is being waited for."""

    HELP = (
        "The loss in nats a token over the tokens trained on: lower is better. The blue line is the training loss, the "
        "mean of each column, the orange diamonds are validations on text that is never trained on. Validation rising "
        "while training falls means that the model learns the text by heart.\n"
        "  ← → h l   a cursor that reads values; shift goes faster,\n"
        "            home, end and a click too; escape ends it\n"
        "  y         logarithmic or linear\n"
        "  m         smoothed, over the rough curve\n"
        "  wheel     less and more time"
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = {TRAINING, VALIDATION}
    DEFAULT_CSS = """
    LossChart {
        & > .loss-chart--training { color: $primary; }
        & > .loss-chart--validation { color: $accent; text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Loss"), id=id)

    def show(
        self,
        training: tuple[LossPoint, ...],
        validation: tuple[LossPoint, ...],
        tokens_total: int,
        waiting_for: str = "",
        *,
        is_part: bool = False,
    ) -> None:
        """Show other curves, of the whole run or a part of it, whose x axis does not begin at nothing."""
        tokens = [point.tokens for point in (*training, *validation)] or [0]
        ends = round_ends(min(tokens), max(tokens)) if is_part else (0, x_end(max(tokens), tokens_total))
        curves = (
            Curve(tr("training"), TRAINING, training),
            Curve(tr("validation"), VALIDATION, validation, sign="◆"),
        )
        self.show_curves(curves, ends, waiting_for)
