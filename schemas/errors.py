"""Every error that glucast raises on purpose.

GlucastError
├── ConfigurationError        settings, topics or files that an operator has to change; says what to run or set
│   ├── TopicMismatchError    a topic is missing or differs from what the topology needs
│   └── CheckpointError       a model file is missing, damaged, of the wrong shape or not what its checksum says
├── UndeclaredEffectError     a step reached for a topic or table that the topology page does not give it
├── RejectedError             input that can never work; the text is for the person who sent it
│   ├── MalformedRecordError  a message that is not the record that its topic carries
│   ├── UndecodableError      what a topic holds at an offset cannot be read as a message at all
│   ├── MessageTooLargeError  a message over the size limit of its topic; checked before it is sent
│   ├── UnknownFormatError    a file that no supported vendor writes
│   ├── TooShortError         less gap-free data than one forecast needs
│   ├── TooCostlyError        a file that takes more time or memory to read than it may
│   ├── ImplausibleError      glucose, units or times that cannot be right
│   └── OutOfRangeError       a sample outside those that a handle has
├── UnknownHandleError        nothing is stored under this handle
├── NoForecastError           a subject has no forecast yet; the text says why
├── NoReadingsError           a subject has no readings in the time that is asked about; the text says which there are
├── OverloadedError           a lane is full; try again after `retry_after_seconds`
├── UnavailableError          the broker or a worker cannot answer now; the work may still be under way
├── StorageError             a disk takes no more; what could not be written is done again when it does
├── ClientGoneError           whoever asked has hung up: nobody reads the answer any more
└── RebuildError              the log is not the one that a read model was built from: it has to be read anew
"""

import datetime


class GlucastError(Exception):
    """The root of the tree. ``str(error)`` is one or two sentences for a person."""

    code = "internal"


class ConfigurationError(GlucastError):
    """Something an operator has to change; the text says what to run or to set."""

    code = "configuration"


class TopicMismatchError(ConfigurationError):
    """A topic is missing, or its partitions or settings differ from what the topology needs."""

    code = "topic_mismatch"


class CheckpointError(ConfigurationError):
    """A model file is missing, damaged, of the wrong shape, or not what its checksum says."""

    code = "checkpoint"


class UndeclaredEffectError(GlucastError):
    """A step reached for a topic or table that the topology page does not give it: the step's own mistake."""

    code = "undeclared_effect"


class RejectedError(GlucastError):
    """Input that can never work. The text tells its sender why, and what to do."""

    code = "rejected"


class MalformedRecordError(RejectedError):
    """A message that is not the record that its topic carries."""

    code = "malformed"


class UndecodableError(RejectedError):
    """What a topic holds at an offset, or a stretch of offsets, cannot be read as a message at all."""

    code = "undecodable"


class MessageTooLargeError(RejectedError):
    """A message over the size limit of its topic."""

    code = "too_large"


class UnknownFormatError(RejectedError):
    """A file that none of the supported vendors writes."""

    code = "unknown_format"


class TooShortError(RejectedError):
    """Less gap-free data than one forecast needs."""

    code = "too_short"


class TooCostlyError(RejectedError):
    """A file that takes more time or memory to read than it may."""

    code = "too_costly"


class ImplausibleError(RejectedError):
    """Glucose, units or times that cannot be right."""

    code = "implausible"


class OutOfRangeError(RejectedError):
    """A sample outside those that a handle has."""

    code = "out_of_range"


class UnknownHandleError(GlucastError):
    """Nothing is stored under this handle."""

    code = "unknown_handle"


class NoForecastError(GlucastError):
    """A subject has no forecast yet, and why."""

    code = "no_forecast"

    def __init__(self, text: str, expected: datetime.datetime | None = None) -> None:
        """`expected`: when the next one can be made, if readings come every five minutes; None where nobody knows."""
        super().__init__(text)
        self.expected = expected


class NoReadingsError(GlucastError):
    """A subject has no readings in the time that is asked about, and which there are."""

    code = "no_readings"


class OverloadedError(GlucastError):
    """A lane is full."""

    code = "overloaded"

    def __init__(self, text: str, retry_after_seconds: int = 1) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(GlucastError):
    """The broker or a worker cannot answer now; accepted work may still be under way."""

    code = "unavailable"


class StorageError(GlucastError):
    """A disk takes no more. What could not be written is done again when it does."""

    code = "storage"


class ClientGoneError(GlucastError):
    """Whoever asked has hung up: nobody reads the answer any more."""

    code = "client_gone"


class RebuildError(GlucastError):
    """The log is not the one that a read model was built from: it has to be read anew."""

    code = "rebuild"
