"""The command line of scripts/stack."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from .errors import StackError
from .processes import Interrupted, interruptible
from .stack import DEFAULT_PORT, OPTIONAL_PARTS, PARTS, Stack

ROOT = Path(__file__).resolve().parents[3]

DESCRIPTION = """\
Supabase on this machine without Docker: Postgres, PostgREST, auth, storage, realtime and functions behind one port,
and a local Stripe beside it.
For development and tests only. State lies in .stack/NAME/.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of scripts/stack."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--name", default="default", help="which stack; several run side by side (default: %(default)s)"
    )
    on_port = argparse.ArgumentParser(add_help=False)
    on_port.add_argument(
        "--port", type=int, metavar="N",
        help="the API listens on N, the database on N+1 "
        f"(default: as last time, at first {DEFAULT_PORT} or the next that is free)",
    )  # fmt: skip
    top = argparse.ArgumentParser(
        prog="scripts/stack", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    start = commands.add_parser(
        "start", parents=[common, on_port], help="start or repair it; apply pending migrations"
    )
    start.add_argument("--no-ticker", action="store_true", help="do not run credits.maintain() every second")
    start.add_argument(
        "--providers", action="store_true",
        help="also run local stand-ins for the AI providers (OpenAI, Gemini, Stability, Runway)",
    )  # fmt: skip
    stop = commands.add_parser("stop", parents=[common, on_port], help="stop it; the data stays")
    stop.add_argument("--delete", action="store_true", help="throw its data, keys and logs away as well")
    status = commands.add_parser(
        "status", parents=[common, on_port], help="print addresses and keys; fails when it is not up"
    )
    status.add_argument("-o", "--output", choices=("pretty", "env", "json"), default="pretty")
    commands.add_parser(
        "reset",
        parents=[common, on_port],
        help="wipe the database, apply all migrations and supabase/seed.sql anew",
    )
    logs = commands.add_parser("logs", parents=[common, on_port], help="print the newest log lines")
    logs.add_argument("part", nargs="?", choices=PARTS + OPTIONAL_PARTS, help="one part only")
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing until Ctrl-C")
    logs.add_argument(
        "-n", "--lines", type=int, default=50, help="how many lines of each part (default: %(default)s)"
    )
    return top


def print_status(stack: Stack, output: str) -> None:
    """Print the status in one of the three formats."""
    status = stack.status()
    values = status.env()
    if output == "json":
        print(json.dumps(values, indent=2))
    elif output == "env":
        for name, value in values.items():
            print(f'{name}="{value}"')
    else:
        labels = {
            "API_URL": "API URL", "DB_URL": "DB URL", "FUNCTIONS_URL": "Functions URL",
            "PUBLISHABLE_KEY": "Publishable key", "SECRET_KEY": "Secret key",
            "STRIPE_API_BASE": "Local Stripe", "PROVIDERS_URL": "AI providers",
        }  # fmt: skip
        print(f"The stack `{stack.name}` is running. It is for development only.\n")
        if status.moved_to:
            print(f"Its port is {status.moved_to}: {DEFAULT_PORT} was in use or another stack's.\n")
        for name, label in labels.items():
            if name in values:
                print(f"  {label:<16} {values[name]}")
        print("\nThe legacy keys, the JWT secret and the stand-ins' keys: scripts/stack status -o env")


def print_logs(stack: Stack, part: str | None, lines: int, follow: bool) -> None:
    """Show the logs with `tail`, which follows files better than a loop here would."""
    files = [str(path) for path in stack.log_files(part) if path.exists()]
    if not files:
        raise StackError(f"The stack `{stack.name}` has no logs yet; `scripts/stack start` starts it.")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *files]
    process = subprocess.Popen(command)
    try:
        process.wait()
    finally:
        process.terminate()


def run(arguments: argparse.Namespace) -> None:
    """Carry out one command."""
    stack = Stack(
        ROOT, arguments.name, arguments.port, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    began = time.monotonic()
    match arguments.command:
        case "start":
            if stack.start(ticker=not arguments.no_ticker, providers=arguments.providers):
                print(f"Up after {time.monotonic() - began:.1f} s.", file=sys.stderr)
            else:
                print(f"The stack `{stack.name}` was already running.", file=sys.stderr)
            print_status(stack, "pretty")
        case "stop":
            ran = stack.stop(delete=arguments.delete)
            print(f"The stack `{stack.name}` {'is stopped' if ran else 'was not running'}.", file=sys.stderr)
        case "reset":
            stack.reset()
            print_status(stack, "pretty")
        case "status":
            print_status(stack, arguments.output)
        case "logs":
            print_logs(stack, arguments.part, arguments.lines, arguments.follow)


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status. An error is one sentence on stderr."""
    arguments = parser().parse_args(argv)
    try:
        with interruptible():
            run(arguments)
    except StackError as error:
        print(f"scripts/stack: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupt:
        print("Interrupted; what this command had started is stopped again.", file=sys.stderr)
        return 128 + interrupt.signum
    except BrokenPipeError:
        return 1
    return 0
