"""The plots of the report, a module for each kind."""
