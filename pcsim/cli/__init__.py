"""The command line: `pcsim COMMAND`. Heavy imports happen inside the commands, so that help is instant."""

from pcsim.cli.app import app

__all__ = ["app"]
