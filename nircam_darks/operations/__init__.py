"""What operators and triggers do: a module a command, behind the command line of the same name."""
