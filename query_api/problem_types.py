"""Every kind of problem that this API answers with: what its `type` leads to, so that nobody has to guess (RFC 9457).

A code is for programs and stays as it is. The `detail` of an answer says what is wrong this time; here stands what
holds each time, and what to do.
"""

from collections.abc import Mapping
from typing import NamedTuple

ROOT = "/problems"


class ProblemType(NamedTuple):
    """One kind of problem."""

    status: int
    title: str
    text: str


def address(code: str) -> str:
    """The `type` of a problem: a path on the host that answered."""
    return f"{ROOT}/{code}" if code in PROBLEMS else "about:blank"


PROBLEMS: Mapping[str, ProblemType] = {
    # what the gate refuses
    "malformed_host": ProblemType(
        400, "The header Host is no host", "Send one header Host with a name or an address, with or without a port."
    ),
    "malformed_origin": ProblemType(
        400, "The header Origin is no origin", "Browsers send scheme://host, with or without a port; send that or none."
    ),
    "foreign_host": ProblemType(
        403, "Not served under this name",
        "A page could let its own name point here. Ask for localhost, or let the operator list the name in "
        "GLUCAST_ALLOWED_HOSTS.",
    ),
    "foreign_origin": ProblemType(
        403, "This page may not ask",
        "A browser sent the request for a page of another site. The operator lists such sites in GLUCAST_CORS_ORIGINS.",
    ),
    "api_key_required": ProblemType(
        401, "A key is needed", "Send it in the header X-API-Key; the operator makes one with glucast keys add."
    ),
    "invalid_api_key": ProblemType(
        403, "The key is unknown",
        "It was mistyped, revoked, renewed, or has expired; the operator sees all with glucast keys list. An address "
        "that sends many wrong keys is not heard for a minute.",
    ),
    "unauthorized": ProblemType(
        401, "No key, or an unknown one", "The Nightscout site takes a key of one person as API secret or as token."
    ),
    "wrong_scope": ProblemType(
        403, "The key is not for this",
        "Keys are made to read, to write or for admin. The OpenAPI document tells what each operation needs.",
    ),
    "foreign_subject": ProblemType(
        403, "The key is not for this subject", "It names the people that it is for. Ask about them, or with another."
    ),
    "not_for_everybody": ProblemType(
        403, "The key is for single people",
        "What is asked here concerns everybody's data, and needs a key that was made without --subject.",
    ),
    "not_one_person": ProblemType(
        403, "The key is not one person's",
        "A Nightscout site is one person's. Make a key with glucast keys add NAME --subject ID --timezone ZONE.",
    ),
    "too_many_requests": ProblemType(
        429, "Too often or too much",
        "Wait for as many seconds as Retry-After says. Limits are those of a key (an address without keys), of an "
        "address that sent wrong keys, and of what is sent in bytes.",
    ),
    "too_large": ProblemType(
        413, "The body is too large", "Send less at a time; the detail says how much is taken here."
    ),
    # what cannot be understood
    "bad_request": ProblemType(400, "The request cannot be read", "The detail says what is wrong with it."),
    "not_found": ProblemType(
        404, "There is nothing here", "Check the address; the OpenAPI document at /openapi.json lists every one."
    ),
    "method_not_allowed": ProblemType(
        405, "Not with this method", "The header Allow says which methods this address answers."
    ),
    "not_acceptable": ProblemType(
        406, "Not in this format", "The header Accept names nothing that this comes as; the detail says what it does."
    ),
    "unsupported_media_type": ProblemType(
        415, "The body is packed in an unknown way", "Send it as it is, or with Content-Encoding: gzip where allowed."
    ),
    "invalid_request": ProblemType(
        422, "The request is not valid", "The detail names each field that is wrong, and how; mend it and ask again."
    ),
    # what was sent and can never work
    "rejected": ProblemType(422, "What was sent cannot be used", "The detail says why; sent again it fails again."),
    "malformed": ProblemType(
        422, "Not a record of its kind", "A field is missing or wrong; schemas/json has the form."
    ),
    "undecodable": ProblemType(
        422, "Not readable at all", "The bytes are no message; whoever wrote them has to mend it."
    ),
    "unknown_format": ProblemType(
        422, "Not a file of a known vendor",
        "Export the readings anew, as the vendor's site or app does it, and send the file unchanged.",
    ),
    "too_short": ProblemType(
        422, "Too few readings", "A forecast needs eight hours without a gap; the detail says how much there is."
    ),
    "too_costly": ProblemType(
        422, "Too much work", "Reading the file would take more time or memory than one file may; send a shorter span."
    ),
    "implausible": ProblemType(
        422, "That cannot be right", "Glucose, a unit or a time is impossible; check the unit, the clock and the zone."
    ),
    "out_of_range": ProblemType(422, "No such sample", "The detail names the samples that this handle has."),
    # what is not there
    "unknown_handle": ProblemType(
        404, "Nothing is stored under this handle",
        "It was deleted, made room for others, or never was. Send the file again: it gets the same handle.",
    ),
    "no_forecast": ProblemType(
        404, "No forecast now",
        "One needs eight hours of readings without a gap and holds for a quarter of an hour. The detail says what is "
        "missing, expected_time when the next can be made.",
    ),
    "no_readings": ProblemType(404, "No readings in this time", "The detail says from when there are some."),
    # what may work later
    "overloaded": ProblemType(
        503, "Too much waits", "Try again after as many seconds as Retry-After says; nothing of it was begun."
    ),
    "unavailable": ProblemType(
        503, "The workers do not answer now",
        "Try again after as many seconds as Retry-After says. What was sent may still be done; sent twice it counts "
        "once.",
    ),
    # what only the operator can mend
    "internal": ProblemType(
        500, "A mistake of glucast's own", "Tell the operator; the log says more. Trying again may do."
    ),
    "configuration": ProblemType(500, "A setting is wrong", "The operator has to change it; the detail says what."),
    "topic_mismatch": ProblemType(
        500, "Topics are not as they have to be", "The operator runs glucast topics provision --check."
    ),
    "checkpoint": ProblemType(
        500, "The model's file is unusable", "The operator has to replace it; the detail says why."
    ),
    "undeclared_effect": ProblemType(500, "A step reached for what is not its own", "A mistake in glucast: report it."),
    "storage": ProblemType(500, "A disk takes no more", "The operator makes room; what waits is done then."),
    "rebuild": ProblemType(500, "Stored data do not fit the log", "The operator lets them be built anew."),
    "client_gone": ProblemType(499, "Whoever asked hung up", "Nobody reads this: it is in logs and figures alone."),
}  # fmt: skip
"""By code."""


def code_of(status: int) -> str:
    """The code where nothing but a status is known: the framework's own refusals."""
    return _OF_STATUS.get(status, "internal" if status >= 500 else "bad_request")


_OF_STATUS: Mapping[int, str] = {
    404: "not_found", 405: "method_not_allowed", 406: "not_acceptable", 413: "too_large", 415: "unsupported_media_type",
    422: "invalid_request", 429: "too_many_requests", 503: "unavailable",
}  # fmt: skip
