#!/bin/sh
# Deletes old Ray sessions, which Ray never does: clean-sessions.sh [--dry-run]
#   RAY_TMP     Ray's temporary directory, /tmp/ray by default
#   KEEP_HOURS  keep sessions written to within this many hours, 72 by default: longer than the agent's backlog
# Never deleted: the session of session_latest, and any that a process has open or on its command line.
set -eu
tmp=${RAY_TMP:-/tmp/ray}
hours=${KEEP_HOURS:-72}
dry=""
case "${1:-}" in
    "") ;;
    --dry-run) dry=yes ;;
    *) echo "clean-sessions: unknown argument $1; the only one is --dry-run" >&2; exit 2 ;;
esac
case $hours in
    "" | *[!0-9]* | 0) echo "clean-sessions: KEEP_HOURS: expected a number of hours, at least 1, got '$hours'" >&2; exit 2 ;;
esac
if [ ! -d "$tmp" ]; then
    echo "clean-sessions: RAY_TMP: $tmp is not a directory" >&2
    exit 1
fi

# The session's name is passed on standard input, so that this script's own processes do not match.
in_use() {
    printf '%s' "${1##*/}" | grep -qlF -f - /proc/[0-9]*/cmdline 2>/dev/null ||
        ls -l /proc/[0-9]*/fd /proc/[0-9]*/cwd 2>/dev/null | grep -qF "$1/"
}

live=$(readlink -f "$tmp/session_latest" || true)
failed=0
for session in "$tmp"/session_2*; do
    [ -d "$session" ] && [ ! -L "$session" ] || continue
    real=$(readlink -f "$session")
    [ "$real" != "$live" ] || continue
    [ -z "$(find "$real" -mmin -$((hours * 60)) 2>/dev/null | head -n 1)" ] || continue
    if in_use "$real"; then
        continue
    fi
    size=$(du -sk "$real" 2>/dev/null | cut -f 1)
    if [ -n "$dry" ]; then
        echo "clean-sessions: would delete $real ($size KiB)"
    elif rm -rf "$real"; then
        echo "clean-sessions: deleted $real ($size KiB)"
    else
        failed=1
    fi
done
exit $failed
