"""The two kinds of failure, and how a worker answers each.

A worker never guesses from an exception's text: the type says whether trying again can help.
"""


class DarksError(Exception):
    """Root of every error this project raises on purpose.

    Parameters
    ----------
    message : str
        One line for a person: what is wrong, where (file, HDU, keyword, message id), what to do.
    """


class PermanentError(DarksError):
    """Trying again cannot help: bad input or a broken contract. Reported or dead-lettered, never retried."""


class TransientError(DarksError):
    """Trying again may help: a server away, no space, memory short once. Retried, then dead-lettered."""


class BadInput(PermanentError):
    """An exposure or file failed a check; ingest reports it as ``exposure.rejected``.

    Parameters
    ----------
    check : str
        Name of the check, as `nircam-darks inspect` prints it (``"EXP_TYPE"``, ``"shape"``).
    message : str
        One line for a person.
    """

    def __init__(self, check: str, message: str) -> None:
        super().__init__(check, message)
        self.check = check
        self.message = message

    def __str__(self) -> str:
        return self.message


class BadMessage(PermanentError):
    """A message body that does not keep its contract."""


class ConfigurationMismatch(PermanentError):
    """Exposures of different configuration keys were asked to be combined."""


class EnvironmentFault(PermanentError):
    """The machine is not set up (no CRDS cache, unreadable reference): cured by its owner, not by retrying.

    Never recorded as a product: the same exposure succeeds once the machine is mended.
    """


class StoreUnavailable(TransientError):
    """The store did not answer, or has no room."""


class NoSpaceLeft(StoreUnavailable):
    """The store has no room: whatever is written next will fare no better until somebody makes some."""


class PublishFailed(TransientError):
    """The broker did not confirm a message, or could not route it."""


class JobCrashed(TransientError):
    """The job's process died (killed, out of memory, segmentation fault) or ran past its time limit."""
