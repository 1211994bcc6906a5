"""The container's health check: exit code 0 where SIMPLENET_EDGE_HEALTH, or else the monitor, answers 200."""

import os
import sys
import urllib.error
import urllib.request

address = os.environ.get("SIMPLENET_EDGE_HEALTH", "http://127.0.0.1:8080/health")
try:
    urllib.request.urlopen(address, timeout=4).close()
except (OSError, ValueError) as error:  # an HTTP status from 400 on is an OSError as well
    sys.exit(f"{address}: {error}")
