"""What can go wrong, in words a user can act on.

Every message says what is wrong, with the values, and what to do. The command line prints it
as one line and exits with status 2; nothing else in the package prints a traceback on purpose.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class DermxError(Exception):
    """Any error that is the input's or the setting's fault, not a bug."""


class InputError(DermxError, ValueError):
    """A value handed to a function is outside what it takes."""


class ConfigError(DermxError, ValueError):
    """A configuration file or field is wrong."""


class DataError(DermxError):
    """A data folder, table or file does not hold what its layout promises."""


class PictureError(DermxError):
    """A file can't be read as a picture."""


class SplitLeakError(DataError):
    """The same lesion, patient or picture is in more than one part."""


class BundleError(DermxError):
    """A model's folder is incomplete, damaged or of a newer format."""


class MissingExtraError(DermxError, ImportError):
    """A part of the package needs an extra that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs more packages: pip install "dermx[{extra}]"')


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Name the extra that brings the packages imported in here, where one of them is missing.

    Raises:
        MissingExtraError: One is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, extra) from error
