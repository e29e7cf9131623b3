"""`tuneoff serve`."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import click

from tuneoff.cli import common_options, printing
from tuneoff.errors import StudyError

HOST = "127.0.0.1"


@click.command("serve")
@click.argument("folder", metavar="[DIR]", default="runs", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port of this machine; 0 takes a free one."
)
@common_options.traceback_option
def serve_command(folder: Path, port: int) -> None:
    """Show the studies and series in DIR in a browser: what runs, reports, comparisons.

    DIR is a folder with studies in it or below it (`runs` where not given), a study, or a series. Only this machine can
    ask, only with the token in the address that is printed, and nothing is changed. Ctrl-C ends it, and no run. Needs
    pip install 'tuneoff[serve]'.

    \b
    Examples:
      tuneoff serve
      tuneoff serve runs/quickstart-1a2b3c --port 8080
    """
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder", hint="Name a folder with studies, such as runs.")
    try:
        import uvicorn

        from tuneoff.cli.web.app import make_app
    except ImportError as error:
        raise StudyError(
            f"{error.name} is not installed, which the server needs", hint="pip install 'tuneoff[serve]'"
        ) from error
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            # From now on a browser that opens the address waits for an answer.
            listener.listen()
        except OSError as error:
            raise StudyError(
                f"port {port} cannot be used: {error.strerror or error}", hint="Leave --port out for a free one."
            ) from error
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(32)
        config = uvicorn.Config(
            make_app(folder, token, port),
            # The token is in the first address, so no address is logged.
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        printing.echo(f"http://{HOST}:{port}/?token={token}")
        printing.echo("Open this address in a browser of this machine. Ctrl-C ends the server, and no run.", err=True)
        uvicorn.Server(config).run(sockets=[listener])
