"""The two kinds of failure, and what a worker does about each.

A worker never parses the text of an exception: its type says whether trying again can help.
"""


class DarksError(Exception):
    """Root of every error this project raises on purpose.

    Parameters
    ----------
    message : str
        One line for people: what is wrong, where (file, HDU, keyword, message id), and what to do about it.
    where : str
        The file, store key, address, queue or exposure concerned.
    keyword : str
        The FITS keyword, the extension or the field of a message that is at fault.
    setting : str
        The environment variable or command-line option that cures it, such as ``"DARKS_S3_CA"``.
    """

    def __init__(
        self, message: str = "", *, where: object = "", keyword: str = "", setting: str = ""
    ) -> None:
        super().__init__(message)
        self.where = str(where)
        self.keyword = keyword
        self.setting = setting


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
        One line for people.
    where, keyword, setting : str
        As for every `DarksError`.
    """

    def __init__(
        self, check: str, message: str, *, where: object = "", keyword: str = "", setting: str = ""
    ) -> None:
        super().__init__(message, where=where, keyword=keyword, setting=setting)
        # An exception is pickled by its arguments, and a job's reaches its worker that way.
        self.args = (check, message)
        self.check = check
        self.message = message

    def __str__(self) -> str:
        return self.message


class BadMessage(PermanentError):
    """The body of a message breaks its contract."""


class ConfigurationMismatch(PermanentError):
    """Exposures of different configurations were to be combined."""


class EnvironmentFault(PermanentError):
    """The machine is not set up (no CRDS cache, unreadable reference), which its owner must change.

    This is never recorded as a rejection: the same exposure succeeds once the machine is set up.
    """


class DamagedObject(EnvironmentFault):
    """Bytes in the store are not those that were written, and reading them again did not help."""


class ScratchTooSmall(TransientError):
    """A file does not fit on the scratch disk as it is now; nothing of it was fetched for nothing."""


class DamagedInTransit(TransientError):
    """The bytes that arrived are not those that the server has, also when they are fetched again."""


class StoreUnavailable(TransientError):
    """The store did not answer, or has no space left."""


class NoSpaceLeft(StoreUnavailable):
    """The store has no space left: every further write fails until somebody frees some."""


class PublishFailed(TransientError):
    """The broker did not confirm a message, or could not route it."""


class JobCrashed(TransientError):
    """The job's process died (killed, out of memory, segmentation fault) or ran past its time limit."""
