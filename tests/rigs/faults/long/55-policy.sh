#!/usr/bin/env bash
# What a worker under another user may listen on, the ways to a socket's path, and what such a worker keeps of the primary's rights: the
# C tests of these with their figures, under each mechanism that is allowed here.
set -u
cd "$(dirname "$0")/../../../.."
status=0
for mechanism in kernel passed rotation; do
    CL_MECHANISM=$mechanism MODES=shared timeout 120 tests/c/run.sh test_listen_allow test_listen_matrix || status=1
done
MODES=shared timeout 120 tests/c/run.sh test_privileges test_unix_races || status=1
exit $status
