"""The command line."""

from sartor.cli.main import main as main
