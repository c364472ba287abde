#!/usr/bin/env python3
"""Checks that each certificate authority in shared/src/config/rds_ca.pem is one of AWS's, and names those that are not.

    tests/rds_ca.py            # compares with the bundle that AWS publishes
    tests/rds_ca.py FILE       # compares with a copy of it

Ours was collected from public copies. This confirms, before a deployment, that AWS's bundle contains all of them.
"""

import hashlib
import pathlib
import re
import ssl
import sys
import urllib.request

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
BUNDLE = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
OURS = pathlib.Path(__file__).resolve().parent.parent / "shared/src/config/rds_ca.pem"


def fingerprints(text):
    certificates = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    return {hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest() for certificate in certificates}


if len(sys.argv) > 1:
    theirs = pathlib.Path(sys.argv[1]).read_text()
else:
    with urllib.request.urlopen(BUNDLE, timeout=30) as response:
        theirs = response.read().decode()
ours, theirs = fingerprints(OURS.read_text()), fingerprints(theirs)
foreign = sorted(ours - theirs)
print(f"{len(ours)} certificates, {len(foreign)} of them not AWS's; {len(theirs - ours)} of AWS's are not among them")
for fingerprint in foreign:
    print(f"not AWS's: SHA-256 {fingerprint}")
sys.exit(1 if foreign else 0)
