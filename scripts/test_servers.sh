#!/bin/sh
# Make what some tests talk to available: mosquitto (an MQTT broker) and chromium (for the monitor page). Installs them
# where we may; otherwise says what is missing and goes on: the tests that need it are then skipped, with the reason.
set -eu

# Debian keeps daemons in a folder that isn't on every user's path.
PATH="$PATH:/usr/sbin:/usr/local/sbin"

missing_programs() {
    command -v mosquitto >/dev/null || printf ' mosquitto'
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        printf ' chromium'
}

missing=$(missing_programs)
[ -n "$missing" ] || exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo='sudo -n'
if command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
    echo "for the tests: installing$missing"
    $sudo apt-get update -qq || true
    for program in $missing; do # one by one: what this system doesn't have must not keep back the others
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$program" >/dev/null || true
    done
fi
missing=$(missing_programs)
[ -z "$missing" ] || echo "for the tests:$missing can't be installed here; the tests that need it are skipped"
