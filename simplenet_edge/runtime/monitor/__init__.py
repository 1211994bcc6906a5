"""The monitor page, the metrics and the health check of a running line, over HTTP.

    with Monitor(status, host="127.0.0.1", port=8080) as monitor:
        ...                       # give monitor.sink every result

Importing this needs nothing but the lean runtime; serving needs the extra `serve`.
"""

from simplenet_edge.runtime.monitor.monitor import Monitor
from simplenet_edge.runtime.monitor.sink import MonitorSink

__all__ = ["Monitor", "MonitorSink"]
