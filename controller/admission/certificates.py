"""Certificates for the webhook: an authority of our own and one certificate for all replicas.

Flow: `renewed` gives what is to be stored, from what is stored and the time; nothing changes while what is
stored is good for long enough.

Limits: the authority's key is stored beside the certificate, since whoever may read one may answer admission
requests anyway. While the authority changes, both are trusted: the older one until it expires.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 90
_SKEW = dt.timedelta(minutes=10)
_RENEW_AT = 2 / 3


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What the Secret holds, all of it PEM.

    Attributes:
        authorities: Certificates that clients trust, the one in use first.
        authority_key: Key of the first of them.
        certificate: The servers' certificate.
        key: The servers' key.
    """

    authorities: bytes
    authority_key: bytes
    certificate: bytes
    key: bytes


def renewed(stored: Bundle | None, *, names: tuple[str, ...], now: dt.datetime) -> Bundle:
    """What should be stored now: the same object if what is stored will do.

    Args:
        stored: What is stored; None if nothing is.
        names: DNS names of the service.
        now: The time.
    """
    authorities = _read_all(stored.authorities) if stored is not None else []
    signer = authorities[0] if authorities else None
    signer_key = _read_key(stored.authority_key) if stored is not None else None
    if signer is None or signer_key is None or not _fits(signer, signer_key) or _due(signer, now):
        signer_key = ec.generate_private_key(ec.SECP256R1())
        signer = _authority(signer_key, now)
        still_good = [one for one in authorities if one.not_valid_after_utc > now]
        authorities = [signer, *still_good[:2]]
    elif stored is not None and _serves(stored, signer=signer, names=names, now=now):
        return stored
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, signer=signer, signer_key=signer_key, names=names, now=now)
    return Bundle(
        authorities=b"".join(one.public_bytes(serialization.Encoding.PEM) for one in authorities),
        authority_key=_pem(signer_key),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=_pem(key),
    )


def _serves(stored: Bundle, *, signer: x509.Certificate, names: tuple[str, ...], now: dt.datetime) -> bool:
    found, key = _read_all(stored.certificate), _read_key(stored.key)
    if not found or key is None or not _fits(found[0], key) or _due(found[0], now):
        return False
    try:
        found[0].verify_directly_issued_by(signer)
        listed = found[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
        return False
    return set(names) <= set(listed.get_values_for_type(x509.DNSName))


def _authority(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    name = _name("dragoman admission authority")
    return (
        _builder(key, subject=name, issuer=name, now=now, days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    *,
    signer: x509.Certificate,
    signer_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    now: dt.datetime,
) -> x509.Certificate:
    return (
        _builder(
            key, subject=_name("dragoman admission"), issuer=signer.subject, now=now, days=CERTIFICATE_DAYS
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer_key, hashes.SHA256())
    )


def _builder(
    key: ec.EllipticCurvePrivateKey, *, subject: x509.Name, issuer: x509.Name, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _due(certificate: x509.Certificate, now: dt.datetime) -> bool:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not begin <= now < begin + (end - begin) * _RENEW_AT


def _fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _read_all(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
