"""``python -m agentvoicebox.cli``. To add one, write ``cli/<module>.py`` with a click ``command`` and name it here."""

import importlib

import click

COMMANDS = {
    "up": "up",
    "down": "down",
    "status": "status",
    "logs": "logs",
    "call": "call",
    "chat": "chat",
    "models": "models",
    "agent": "agent",
    "tenant": "tenant",
    "people": "people",
    "audit": "audit",
    "manage": "manage",
    "encryption": "encryption",
    "test": "checks",
}


class Commands(click.Group):
    """Commands in the order above, their modules imported only when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"agentvoicebox.cli.{COMMANDS[cmd_name]}").command
        assert isinstance(command, click.Command)  # noqa: S101 - the rule of this package
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """AgentVoiceBox: voice agents on your own machines.

    ./avb up starts everything on this machine. State is kept in .avb (or AVB_STATE_DIR).
    """


if __name__ == "__main__":
    main(prog_name="./avb")
