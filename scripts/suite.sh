# shellcheck shell=bash
# Sourced by the scripts that run a list of checks: `check NAME COMMAND...` for each, then `finish`.
# A command's output is shown only when it fails. Inside a command `set -e` does not work: join with && or keep a status.

suite_passed=0
suite_failed=""

check() {
    local name=$1 suite_output
    shift
    printf '%-36s ' "$name"
    suite_output=$(mktemp)
    if "$@" >"$suite_output" 2>&1 </dev/null; then
        suite_passed=$((suite_passed + 1))
        echo ok
    else
        suite_failed="$suite_failed $name"
        echo FAILED
        sed 's/^/    /' "$suite_output"
    fi
    rm -f "$suite_output"
}

# The closing line, and the status of the whole.
finish() {
    [ -z "$suite_failed" ] || echo "failed:$suite_failed"
    echo "$suite_passed passed, $(wc -w <<<"$suite_failed") failed"
    [ -z "$suite_failed" ]
}

# Fails when a process is still there that was started with this script's CHECK_RUN in its environment, and says which.
nobody_is_left() {
    local environ pid status=0
    for environ in /proc/[0-9]*/environ; do
        pid=${environ//[!0-9]/}
        if [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ]; then continue; fi
        if { tr '\0' '\n' <"$environ" | grep -qx "CHECK_RUN=$CHECK_RUN"; } 2>/dev/null; then
            tr '\0' ' ' <"/proc/$pid/cmdline"
            status=1
        fi
    done
    return $status
}
