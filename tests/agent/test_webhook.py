"""Signatures as the public standard has them: its vector, several keys, and what is not believed."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from reconciler.agent import webhook
from reconciler.agent.webhook import MessageError, SecretError

# The vector that the standard's own libraries are tested with.
SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = b"whsec_" + base64.b64encode(bytes(range(32)))
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": SIGNATURE}


def by_the_standard(secret: bytes, headers: dict[str, str], body: bytes) -> bool:
    """Verify a message as the text of the standard says, with nothing of ours."""
    key = base64.b64decode(secret.removeprefix(b"whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in headers["webhook-signature"].split(" ")


def test_the_vector_of_the_standard_is_made() -> None:
    assert webhook.sign(webhook.read_keys(SECRET), ID, AT, BODY) == HEADERS
    assert by_the_standard(SECRET, HEADERS, BODY)


def test_every_key_of_a_file_signs_and_whoever_has_one_of_them_believes() -> None:
    headers = webhook.sign(webhook.read_keys(b"# new\n" + OTHER + b"\n\n" + SECRET + b"\n"), ID, AT, BODY)

    assert headers["webhook-signature"].split(" ")[1:] == [SIGNATURE]
    assert by_the_standard(SECRET, headers, BODY)
    assert by_the_standard(OTHER, headers, BODY)
    for secret in (SECRET, OTHER):
        assert webhook.check(webhook.read_keys(secret), headers, BODY, AT, 300) == ID


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "there is no key in it"),
        (b"# nothing\n", "there is no key in it"),
        (b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "line 1 is not whsec_ and base64 of 24 to 64 bytes"),
        (SECRET + b"\nwhsec_c2hvcnQ=\n", "line 2 is not whsec_ and base64 of 24 to 64 bytes"),
        (b"whsec_" + b"*" * 40, "line 1 is not whsec_ and base64 of 24 to 64 bytes"),
        ((SECRET + b"\n") * 9, "there are more than 8 keys in it"),
    ],
)
def test_a_file_that_holds_no_keys_is_refused_without_a_word_of_it(data: bytes, why: str) -> None:
    with pytest.raises(SecretError) as caught:
        webhook.read_keys(data)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("over", "body", "now", "code"),
    [
        ({}, BODY + b" ", AT, "REC7329"),
        ({"webhook-id": "msg_2"}, BODY, AT, "REC7329"),
        ({"webhook-timestamp": str(AT + 1)}, BODY, AT, "REC7329"),
        ({"webhook-signature": "v1a," + SIGNATURE[3:]}, BODY, AT, "REC7329"),
        ({"webhook-signature": SIGNATURE.replace("v1,", "v2,")}, BODY, AT, "REC7329"),
        ({"webhook-signature": "v1,\u00e4"}, BODY, AT, "REC7329"),
        ({"webhook-signature": ""}, BODY, AT, "REC7328"),
        ({"webhook-timestamp": "yesterday"}, BODY, AT, "REC7328"),
        ({"webhook-timestamp": "-5"}, BODY, AT, "REC7328"),
        ({}, BODY, AT + 301, "REC7330"),
        ({}, BODY, AT - 301, "REC7330"),
    ],
)
def test_what_was_changed_is_old_or_lacks_something_is_not_believed(
    over: dict[str, str], body: bytes, now: int, code: str
) -> None:
    with pytest.raises(MessageError) as caught:
        webhook.check(webhook.read_keys(SECRET), {**HEADERS, **over}, body, now, 300)
    assert caught.value.code == code


def test_a_signature_that_is_known_counts_among_others_and_however_headers_are_written() -> None:
    headers = {name.upper(): value for name, value in HEADERS.items()}
    headers["WEBHOOK-SIGNATURE"] = f"v1,AAAA v1a,xyz {SIGNATURE}"
    assert webhook.check(webhook.read_keys(SECRET), headers, BODY, AT + 300, 300) == ID
