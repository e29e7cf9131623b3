"""The command `tuneoff`: finds a subcommand's module when it is used, and turns what it raises into one
message and an exit code.

Only click is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from tuneoff import __version__
from tuneoff.cli._output import OutputFailed, OutputGone, guarded_streams
from tuneoff.cli._signals import like_an_interrupt
from tuneoff.cli.exit_codes import EXIT_CODES, INTERRUPTED, TRIAL_FAILED, State
from tuneoff.cli.printing import echo
from tuneoff.encoding import visible
from tuneoff.errors import StudyError, TuneoffError, did_you_mean, shortened, without_passwords

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Fine-tune with every method of STUDY under one protocol and report."),
    "plan": ("plan", "Show the trials of STUDY, what each would train and what it would take; keeps nothing."),
    "watch": ("watch", "Show from another terminal how the study in DIR gets on."),
    "report": ("report", "Show the results in DIR and write its report anew."),
    "recommend": ("recommend", "Say which method of DIR to use, under limits where there are any."),
    "deployability": ("deployability", "Score trained models of DIR again: merged, packed, converted."),
    "serve": ("serve", "Show the studies and series in DIR in a browser: what runs, reports, comparisons."),
    "compare": ("compare", "Show studies that answer the same question side by side."),
    "merge": ("merge", "Join folders of parts of one study in OUT."),
    "import": ("import_", "Read results that somebody else's suite measured."),
    "list": ("list_", "List what there is to choose from."),
    "show": ("show", "Describe one method, task, executor or recipe."),
    "init": ("init", "Write a commented study file after looking at a data file."),
    "cache": ("cache", "Show what was fetched and lies on this machine, and clear it."),
    "doctor": ("doctor", "Show hardware, versions, caches and what is missing."),
    "export": ("export", "Write a trained trial as files that PEFT or transformers load."),
    "predict": ("export", "Predict every row of FILE with a trained trial."),
}
"""Command -> its module and its one line of help, which is written here so that `--help` imports no module."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tuneoff.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"no command {name!r}{did_you_mean(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="tuneoff %(version)s")
@click.option("--traceback", "show_traceback", is_flag=True, help="Show where an error came from.")
@click.pass_context
def cli(ctx: click.Context, show_traceback: bool) -> None:
    """A fair face-off between fine-tuning methods for pretrained transformers.

    Give it a base model, a data set and methods; every method is trained under one protocol and measured
    alike, and the report says which to use, and how sure that is.

    \b
    Examples:
      tuneoff run quickstart          nine methods on news topics, a few minutes
      tuneoff init reviews.csv        write a study file for your own data
      tuneoff plan reviews.study.yaml see what would be trained
      tuneoff COMMAND --help          options and examples of a command
    """
    if show_traceback:
        ctx.ensure_object(State).traceback = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (`sys.argv` by default) and returns its exit code; prints errors on stderr."""
    state = State(traceback=os.environ.get("TUNEOFF_TRACEBACK", "") not in {"", "0"})
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (`>&-`): output is lost, the rest works
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A character that the terminal cannot show is replaced; it is no reason to fail.
            stream.reconfigure(errors="replace")
    if "_TUNEOFF_COMPLETE" in os.environ:
        cli.main(prog_name="tuneoff")  # a shell asks click for completions; this exits
    with guarded_streams() as out:
        try:
            with like_an_interrupt():
                code = _run(arguments, state)
        except OutputGone:
            code = state.exit_code  # the reader (`| head`) has closed the pipe
        try:
            out.flush()
        except OutputGone:
            out.discard()
        except OutputFailed as error:
            out.discard()
            if not code:
                show_error(error, state.traceback)
                code = TRIAL_FAILED
    return code


def _run(arguments: Sequence[str] | None, state: State) -> int:
    """Runs the command and returns its exit code, with a message for whatever it raises.

    click's own `main(standalone_mode=False)` ends without a word at any broken pipe, that of a trial's process too.
    """
    try:
        command_line = list(sys.argv[1:] if arguments is None else arguments)
        _refuse_bytes(command_line)
        with cli.make_context("tuneoff", command_line, obj=state) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption):
            from tuneoff.cli._usage import unknown_option

            error = unknown_option(error)
        # `message` is declared final, but holds what the user typed.
        vars(error)["message"] = visible(error.message)
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        echo("\nInterrupted.", err=True)
        return INTERRUPTED
    except TuneoffError as error:
        show_error(error, state.traceback)
        return state.error_code
    except OutputGone:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            # A name that is too long, a folder that was taken away, a full disk: an error of the system, not ours.
            file_name = shortened(os.fsdecode(error.filename))
            show_error(TuneoffError(f"{file_name}: {error.strerror}", hint=_SYSTEM_ERROR_HINT), state.traceback, error)
            return state.error_code
        if state.traceback:
            echo(without_passwords(traceback.format_exc()), err=True)
        echo(f"Error: {type(error).__name__}: {without_passwords(str(error))}", style="red", err=True)
        echo(
            "This is a fault in tuneoff, not in what you typed. Please report it with the output of the same command "
            "with --traceback added.",
            err=True,
        )
        return TRIAL_FAILED
    return state.exit_code


_SYSTEM_ERROR_HINT = (
    "The system said so. Name another file or folder, or mend this one, and give the same command again."
)


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """Refuses words that are not text: what is typed is kept in files of UTF-8.

    Raises:
        StudyError: names the first such word.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = shortened(argument.encode(errors="backslashreplace").decode())
            raise StudyError(
                f"{shown} holds bytes that are not UTF-8 text", hint="Rename the file, or type the name in UTF-8."
            ) from None


def show_error(error: TuneoffError, with_traceback: bool, cause: Exception | None = None) -> None:
    """Prints on stderr what is wrong and what to do about it."""
    if with_traceback:
        echo(without_passwords("".join(traceback.format_exception(cause or error))), err=True)
    echo(f"Error: {error.message}", style="red", err=True)
    if error.hint:
        echo(error.hint, err=True)
