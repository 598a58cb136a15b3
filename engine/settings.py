"""The settings: every key with its type, unit, range, default and reason, in one place.

`settings.toml` as `llm-tui init` writes it is rendered from the descriptions here, so the two cannot drift.
Reading, checking and rendering the file is `engine/settings_file.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.settings_data import CorpusPart as CorpusPart
from engine.settings_data import CorpusSettings as CorpusSettings
from engine.settings_data import ScaleSettings as ScaleSettings
from engine.shape import MOST_CONTEXT
from engine.ui_settings import UiSettings

Auto = Literal["auto"]
Count = Annotated[int, Meta(ge=1, le=10**12)]
Seconds = Annotated[float, Meta(ge=1, le=604_800)]
CURRENCY_PATTERN = "^[A-Z]{3}$"
TIME_PATTERN = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ClockTime = Annotated[str, Meta(pattern=TIME_PATTERN)]
OnOff = Literal["auto", "on", "off"]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model is trained."""

    preset: Annotated[
        Literal["auto", "tiny", "15m", "45m", "134m"],
        Meta(description="size of the model; auto: tiny on a CPU, 134m on a GPU of 4 GB or more, else 45m"),
    ] = "auto"
    vocab_size: Annotated[int, Meta(ge=300, le=1_000_000, description="tokens in the vocabulary")] | None = (
        None
    )
    n_layer: Annotated[int, Meta(ge=1, le=200, description="decoder blocks")] | None = None
    n_head: Annotated[int, Meta(ge=1, le=256, description="attention heads; divides n_embd")] | None = None
    n_kv_head: (
        Annotated[int, Meta(ge=1, le=256, description="key and value heads; divides n_head")] | None
    ) = None
    n_embd: Annotated[int, Meta(ge=8, le=32_768, description="width of the model")] | None = None
    intermediate: Annotated[int, Meta(ge=8, le=131_072, description="width of the SwiGLU")] | None = None
    context: Annotated[int, Meta(ge=16, le=MOST_CONTEXT, description="tokens a sequence")] | None = None
    tie_embeddings: Annotated[bool, Meta(description="share the embedding with the output head")] | None = (
        None
    )


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it learns."""

    tokens: Annotated[
        Count | Auto,
        Meta(description="tokens to train on in all, counted with repetition; auto: by the preset"),
    ] = "auto"
    tokens_per_step: Annotated[
        Annotated[int, Meta(ge=16, le=10**9)] | Auto,
        Meta(description="tokens an optimizer step; reached by accumulation whatever fits the memory"),
    ] = "auto"
    micro_batch: Annotated[
        Annotated[int, Meta(ge=1, le=65_536)] | Auto,
        Meta(description="sequences at a time; auto: found on the device itself before the training begins"),
    ] = "auto"
    learning_rate: Annotated[
        Annotated[float, Meta(gt=0, le=10)] | Auto,
        Meta(description="peak rate, after the warm-up; auto: by the preset"),
    ] = "auto"
    optimizer: Annotated[
        Literal["muon", "adamw"],
        Meta(description="muon: Muon for the hidden matrices and AdamW for the rest; adamw: AdamW for all"),
    ] = "muon"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Meta(description="number format of the matrix products; auto: bf16, fp16 on a GPU that lacks it"),
    ] = "auto"
    compile: Annotated[
        OnOff, Meta(description="torch.compile; auto: where the run is long enough for it to pay")
    ] = "auto"
    activation_checkpointing: Annotated[
        OnOff, Meta(description="recompute instead of keeping activations; auto: where memory needs it")
    ] = "auto"
    weight_decay: Annotated[float, Meta(ge=0, le=1, description="decoupled weight decay of the matrices")] = (
        0.1
    )
    gradient_clip: Annotated[float, Meta(gt=0, le=1000, description="largest norm of the gradient")] = 1.0
    warmup_frac: Annotated[
        float, Meta(ge=0, le=0.5, description="share of the steps in which the rate rises, 0 to 1")
    ] = 0.02
    decay_frac: Annotated[
        float, Meta(ge=0, le=1, description="share of the steps, at the end, in which the rate falls, 0 to 1")
    ] = 0.4
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="same seed, same run")] = 1337
    eval_every_s: Annotated[
        Seconds | Auto,
        Meta(description="seconds between validations; auto: about 20 a run, at most 30 min apart"),
    ] = "auto"
    sample_every_s: Annotated[
        Seconds | Auto,
        Meta(description="seconds between text samples; auto: about 10 a run, at most 1 h apart"),
    ] = "auto"
    checkpoint_every_s: Annotated[
        Seconds | Auto,
        Meta(description="seconds between checkpoints; auto: about 10 a run, at most 15 min apart"),
    ] = "auto"
    keep_checkpoints: Annotated[
        int, Meta(ge=2, le=1000, description="newest checkpoints kept; never fewer than two")
    ] = 2
    sample_prompt: Annotated[
        Annotated[str, Meta(max_length=2000)]
        | Annotated[list[Annotated[str, Meta(max_length=2000)]], Meta(min_length=1, max_length=8)],
        Meta(
            description="how the text samples begin: one text, or a list of up to 8, each sampled every time"
        ),
    ] = "def "
    max_restarts: Annotated[
        int,
        Meta(
            ge=0, le=1000, description="restarts in a row, without a new checkpoint between, before it fails"
        ),
    ] = 5


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run pauses or ends; 0 means no limit."""

    max_gpu_celsius: Annotated[
        float, Meta(ge=0, le=120, description="°C; at this GPU temperature: checkpoint and pause; 0 = none")
    ] = 87.0
    resume_gpu_celsius: Annotated[
        float, Meta(ge=0, le=120, description="°C; after such a pause, goes on at this temperature")
    ] = 70.0
    max_cost: Annotated[
        float, Meta(ge=0, le=1e9, description="in energy.currency; a run that costs this stops; 0 = none")
    ] = 0.0
    max_hours: Annotated[float, Meta(ge=0, le=1e6, description="h; a run that took this stops; 0 = none")] = (
        0.0
    )
    min_free_disk_gib: Annotated[
        float, Meta(ge=0, le=1e6, description="GiB; a run that leaves less free on its disk stops; 0 = none")
    ] = 0.5
    min_battery_frac: Annotated[
        float,
        Meta(ge=0, le=0.95, description="0 to 1; on battery at this charge: checkpoint and pause; 0 = none"),
    ] = 0.2
    vram_budget_gib: Annotated[
        float, Meta(ge=0, le=1e5, description="GiB the plan may use (of RAM on a CPU); 0 = what is free")
    ] = 0.0


class TariffWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hours of the week with a price of their own, by the machine's local clock."""

    begins: Annotated[ClockTime, Meta(description="when it begins")] = msgspec.field(name="from")
    ends: Annotated[
        ClockTime, Meta(description="when it ends; before or at its beginning: on the next day")
    ] = msgspec.field(name="to")
    days: Annotated[list[Weekday], Meta(min_length=1, description="days on which it begins; absent: all")] = (
        msgspec.field(default_factory=lambda: list(WEEKDAYS))
    )
    price_per_kwh: Annotated[float, Meta(ge=0, le=1e6, description="in energy.currency")]


class EnergySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a kilowatt-hour costs, and the part of the machine that no sensor sees."""

    price_per_kwh: Annotated[
        float,
        Meta(
            ge=0, le=1e6, description="in currency; the default is about a US household's in 2025: set yours"
        ),
    ] = 0.17
    currency: Annotated[
        str, Meta(pattern=CURRENCY_PATTERN, description="three letters of ISO 4217, e.g. USD EUR AZN")
    ] = "USD"
    cpu_rated_watts: Annotated[
        float,
        Meta(
            gt=0, le=2000, description="W at full load, from the data sheet; used where no sensor measures it"
        ),
    ] = 45.0
    rest_of_machine_watts: Annotated[
        float, Meta(ge=0, le=10_000, description="W of display, board, memory and disk together")
    ] = 15.0
    psu_efficiency_frac: Annotated[
        float, Meta(gt=0.2, le=1, description="share of the wall's power that reaches the machine, 0 to 1")
    ] = 0.88
    grams_co2_per_kwh: Annotated[
        float, Meta(ge=0, le=5000, description="g CO2 a kWh of your grid; 0 = unknown, then none is shown")
    ] = 0.0
    tariff: Annotated[
        list[TariffWindow],
        Meta(
            description="prices by time of day and weekday, as [[energy.tariff]]; the first that fits counts, "
            "price_per_kwh where none does",
            extra={
                "example": '[[energy.tariff]]\nfrom = "22:00"\nto = "06:00"\n'
                'days = ["mon", "tue", "wed", "thu", "fri"]\nprice_per_kwh = 0.12'
            },
        ),
    ] = []
    """Last: in the file, keys that follow a table of a list would belong to it."""


class CloudOffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cloud GPU that the person was offered, shown beside the table that ships."""

    name: Annotated[str, Meta(min_length=1, max_length=100, description="who offers it")]
    gpu: Annotated[str, Meta(min_length=1, max_length=100, description="which GPU")]
    usd_per_hour: Annotated[float, Meta(ge=0, le=1e5, description="US dollars an hour")]
    hours: Annotated[float, Meta(gt=0, le=1e6, description="hours it would take; absent: scaled")] | None = (
        None
    )


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to compare with."""

    currency_per_usd: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=1e6,
                description="what a US dollar costs in energy.currency, to compare with; absent: no comparison "
                "unless that is USD",
            ),
        ]
        | None
    ) = None
    usd_per_gib_month: (
        Annotated[
            float,
            Meta(
                ge=0,
                le=1000,
                description="US dollars that a GiB of cloud storage costs a month; absent: unknown",
            ),
        ]
        | None
    ) = None
    offers: Annotated[
        list[CloudOffer],
        Meta(
            description="your own offers, as [[cloud.offers]] with name, gpu, usd_per_hour and perhaps hours",
            extra={
                "example": '[[cloud.offers]]\nname = "a friend\'s server"\ngpu = "NVIDIA T4"\nusd_per_hour = 0.5'
            },
        ),
    ] = []


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the sensors are read."""

    interval_s: Annotated[float, Meta(ge=0.2, le=60, description="seconds between readings")] = 1.0


class PreflightSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the checklist asks for."""

    close_apps: Annotated[
        list[str], Meta(description="programs that should be closed before a run, by the name of the process")
    ] = msgspec.field(
        default_factory=lambda: [
            "firefox",
            "chrome",
            "chromium",
            "brave",
            "steam",
            "discord",
            "obs",
            "blender",
        ]
    )
    min_free_vram_gib: Annotated[
        float, Meta(ge=0, le=1e4, description="GiB free on the GPU before a start; 0 = what the plan needs")
    ] = 0.0
    require_ac_power: Annotated[bool, Meta(description="whether a run on battery is refused")] = True
    rehearsal: Annotated[
        bool, Meta(description="whether a start is tried first: one step, validation, save and load")
    ] = True
    manual: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=200)]],
        Meta(
            max_length=20,
            description="steps of your own, ticked by hand before every start, e.g. "
            '["laptop on a hard surface, fan free"]',
        ),
    ] = []


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where news of a run is sent."""

    url: Annotated[
        str,
        Meta(
            max_length=2000,
            description='address of a receiver: "ntfy://TOPIC", "ntfys://HOST/TOPIC", a web hook\'s https://, or with '
            "the extra [notify] any of apprise's, as tgram:// and mailtos://; a secret: it stays in this file",
            extra={"is_secret": True},
        ),
    ] = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `settings.toml`; what a file leaves out has its default."""

    model: ModelSettings = ModelSettings()
    corpus: CorpusSettings = CorpusSettings()
    training: TrainingSettings = TrainingSettings()
    scale: ScaleSettings = ScaleSettings()
    limits: LimitSettings = LimitSettings()
    energy: EnergySettings = EnergySettings()
    cloud: CloudSettings = CloudSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    preflight: PreflightSettings = PreflightSettings()
    notify: NotifySettings = NotifySettings()
    ui: UiSettings = UiSettings()
