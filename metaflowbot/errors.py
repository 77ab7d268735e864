"""The error tree, by what the caller can do about it.

    MetaflowbotError            its text is one line for a person, with what to do next
    ├── UsageError              the caller mends the call (exit 2, HTTP 422)
    │   ├── SettingsError       the operator mends a setting, which the text names
    │   └── QuestionError       the asker mends the question
    ├── NotFoundError           what was named does not exist (HTTP 404)
    ├── SourceError             a source can't be read: the others go on
    ├── IndexUnavailableError   there is no readable index generation: ingest builds one
    ├── StoreError              the database does not answer
    └── ModelError              the model server fell short: the answer goes on without it
        ├── ModelRefusedError       it refused the key, the model's name or the request
        ├── ModelBusyError          it is out of quota or overloaded (HTTP 429)
        ├── ModelTimeoutError       it did not answer in time
        └── ModelBrokenError        it failed (5xx), cut its stream, or sent nothing

Vendor errors are translated where the vendor is called, so nobody else imports them.
"""


class MetaflowbotError(Exception):
    """Base of all errors meant for a person; `str(error)` is one line with what to do next."""


class UsageError(MetaflowbotError):
    """The call itself is wrong."""


class SettingsError(UsageError):
    """A setting is wrong; the text names it, says what is wrong, and what it may be."""


class QuestionError(UsageError):
    """The question can't be asked as it stands."""


class NotFoundError(MetaflowbotError):
    """What the call names does not exist."""


class SourceError(MetaflowbotError):
    """A source, or a file of it, can't be read."""


class IndexUnavailableError(MetaflowbotError):
    """No index generation can be served."""


class StoreError(MetaflowbotError):
    """The database does not answer."""


class ModelError(MetaflowbotError):
    """The model server fell short."""


class ModelRefusedError(ModelError):
    """The model server refused the key, the model or the request."""


class ModelBusyError(ModelError):
    """The model server is out of quota or overloaded."""


class ModelTimeoutError(ModelError):
    """The model server did not answer in time."""


class ModelBrokenError(ModelError):
    """The model server failed, cut its stream, or sent nothing."""
