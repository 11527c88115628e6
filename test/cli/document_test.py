#!/usr/bin/env python3
"""docs/oci.md is what the table prints."""
import os
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
printed = subprocess.run([sys.argv[1], "internal-oci-doc"], capture_output=True, check=True).stdout
with open(os.path.join(here, "..", "..", "docs", "oci.md"), "rb") as f:
    if f.read() != printed:
        sys.exit("docs/oci.md is out of date: runsc internal-oci-doc > docs/oci.md")
