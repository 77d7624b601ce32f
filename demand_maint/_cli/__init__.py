"""The subcommands; each module is imported by the command that needs it."""
