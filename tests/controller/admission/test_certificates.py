"""Certificates are good, and are renewed in time."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509

from controller.admission.certificates import AUTHORITY_DAYS, CERTIFICATE_DAYS, Bundle, renewed

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NAMES = ("webhook.dragoman.svc",)


def at(days: float, stored: Bundle | None, names: tuple[str, ...] = NAMES) -> Bundle:
    return renewed(stored, names=names, now=NOW + dt.timedelta(days=days))


def test_the_first_certificate_is_for_the_service_and_signed_by_the_authority() -> None:
    made = at(0, None)
    certificate = x509.load_pem_x509_certificate(made.certificate)
    (authority,) = x509.load_pem_x509_certificates(made.authorities)
    certificate.verify_directly_issued_by(authority)
    listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert listed.get_values_for_type(x509.DNSName) == list(NAMES)


def test_a_good_certificate_stays() -> None:
    made = at(0, None)
    assert at(CERTIFICATE_DAYS / 2, made) is made


def test_a_certificate_is_renewed_long_before_it_ends_and_by_the_same_authority() -> None:
    made = at(0, None)
    later = at(CERTIFICATE_DAYS * 0.7, made)
    assert later.certificate != made.certificate
    assert later.authorities == made.authorities


def test_a_new_authority_is_trusted_beside_the_old_one() -> None:
    made = at(0, None)
    later = at(AUTHORITY_DAYS * 0.7, made)
    assert len(x509.load_pem_x509_certificates(later.authorities)) == 2
    assert made.authorities in later.authorities


def test_a_service_by_another_name_gets_another_certificate() -> None:
    made = at(0, None)
    other = at(1, made, ("other.dragoman.svc",))
    assert other.certificate != made.certificate


@pytest.mark.parametrize("field", ["authorities", "authority_key", "certificate", "key"])
def test_what_is_damaged_is_made_anew(field: str) -> None:
    made = at(0, None)
    damaged = replace(made, **{field: b"-----BEGIN NOTHING-----\n"})
    again = at(1, damaged)
    assert again is not damaged
    assert at(2, again) is again


def test_a_key_that_does_not_fit_is_replaced() -> None:
    made, other = at(0, None), at(0, None)
    mixed = replace(made, key=other.key)
    assert at(1, mixed) is not mixed


def test_a_clock_that_was_wrong_when_it_was_made_is_no_reason_to_keep_it() -> None:
    made = at(0, None)
    assert at(-30, made).certificate != made.certificate
