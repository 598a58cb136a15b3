"""A workspace before a run: its settings, its checklist, and what can be done about a verdict."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from engine import settings_file
from engine.errors import EngineError, RunFailedError, SettingsError
from engine.process import module_argv, workspace_path
from engine.records import Check, CheckStep, ClosingReport, OpenProcess, OpenProcesses, RemedyAction
from engine.settings import Settings


class Checklist:
    """One folder with a settings.toml, and the preflight of a run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = workspace_path(folder).resolve()

    # --- settings ---------------------------------------------------------------------------------------------

    @property
    def settings_path(self) -> Path:
        """settings.toml."""
        return self.folder / settings_file.FILE_NAME

    def has_settings(self) -> bool:
        """Whether there is a settings.toml."""
        return self.settings_path.exists()

    def init(self) -> Path:
        """Write a documented settings.toml. Raises: SettingsError where there is one."""
        return settings_file.write_template(self.folder)

    def settings(self, overrides: Sequence[str] = ()) -> Settings:
        """The settings in force. Raises: SettingsError."""
        return settings_file.load(self.settings_path, overrides)

    # --- the checks -----------------------------------------------------------------------------------------

    def check_argv(
        self,
        *,
        overrides: Sequence[str] = (),
        waivers: Mapping[str, str] | None = None,
        ticks: Sequence[str] = (),
    ) -> list[str]:
        """A command whose process prints one `Check` as JSON a line, as each verdict is known, and ends."""
        return [
            *module_argv("engine.preflight", str(self.folder)),
            *(f"--set={override}" for override in overrides),
            *(f"--waive={check}={reason}" for check, reason in (waivers or {}).items()),
            *(f"--tick={check}" for check in ticks),
        ]

    def steps(self, overrides: Sequence[str] = ()) -> tuple[CheckStep, ...]:
        """Every line of the checklist, at once; the person's own are missing where the settings cannot be read."""
        from engine.preflight.steps import steps

        try:
            return steps(self.settings(overrides))
        except SettingsError:
            return steps(None)

    def known_checks(self) -> tuple[Check, ...]:
        """The verdicts of the last preflight in this workspace, as old as their `at` says; empty: there was none."""
        from engine.preflight.kept import load

        return load(self.folder).checks

    def checks(
        self,
        *,
        overrides: Sequence[str] = (),
        waivers: Mapping[str, str] | None = None,
        ticks: Sequence[str] = (),
    ) -> Iterator[Check]:
        """Run the preflight, each verdict in the order of the list, as soon as it and those before are known.

        Raises: SettingsError; EngineError for a waiver or tick that names nothing; RunFailedError where the preflight
        itself dies.
        """
        from engine.preflight.steps import in_order

        self._refuse_unknown(waivers, ticks, overrides)
        command = self.check_argv(overrides=overrides, waivers=waivers, ticks=ticks)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                lines = (msgspec.json.decode(line, type=Check) for line in process.stdout)
                yield from in_order(lines, self.steps(overrides))
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise RunFailedError(
                f"The preflight ended with exit code {process.returncode}.", "Run `llm-tui check`."
            )

    def _refuse_unknown(
        self, waivers: Mapping[str, str] | None, ticks: Sequence[str], overrides: Sequence[str]
    ) -> None:
        from engine.preflight.steps import refuse_unknown

        try:
            settings = self.settings(overrides)
        except SettingsError:
            settings = None
        refuse_unknown(settings, waivers or {}, ticks)

    def apply_remedy(self, action: RemedyAction) -> str:
        """Do what a verdict's `remedy_action` names; the answer says what was done.

        Raises: EngineError with the exact reason where it cannot be done, or is the person's to do.
        """
        if action == "write-settings":
            return f"Wrote {self.init()}"
        if action == "enable-linger":
            from engine.preflight.remedy import enable_linger

            return enable_linger()
        raise EngineError(f"{action or 'This verdict'} has nothing that can be done without you.")

    # --- closing programs -------------------------------------------------------------------------------------

    def open_processes(self, overrides: Sequence[str] = ()) -> OpenProcesses:
        """Who holds GPU memory, and who should be closed by `preflight.close_apps`. Raises: SettingsError."""
        from engine.preflight.processes import open_processes
        from engine.telemetry.gpus import snapshot

        return open_processes(self.settings(overrides).preflight, snapshot())

    @staticmethod
    def close_processes(
        processes: Sequence[OpenProcess], *, kill: bool = False, patience_s: float = 5.0, watch_s: float = 3.0
    ) -> ClosingReport:
        """Ask programs of that list to end, or `kill` those that were asked before; what came of it, measured.

        Blocks for `patience_s` at most, and for `watch_s` to see who comes back.
        """
        from engine.preflight.closing import close_processes

        return close_processes(processes, kill=kill, patience_s=patience_s, watch_s=watch_s)
