#!/usr/bin/env bash
# Every test that a page names as `file::case` exists: the file below tests/ or in the project, and the words in it. The parts of
# `make faults` that are named exist, too. Every F and every S of docs/reliability.md has one row, with a test in it or the
# reason why there is none.
set -u
cd "$(dirname "$0")/.."
status=0
complain() { echo "$1"; status=1; }

references=$(grep -ohE '`[A-Za-z0-9_./-]+\.(c|h|rs|cjs|sh|py)(::[^`]+)?`' docs/reliability.md SECURITY.md | tr -d '`' | sort -u)
[ "$(wc -l <<<"$references")" -gt 100 ] || complain "few tests are named; was the way of naming them changed?"
while IFS= read -r reference; do
    file=${reference%%::*}
    [ -f "tests/$file" ] && file=tests/$file
    if [ ! -f "$file" ]; then
        complain "$reference: there is no such file"
    elif [[ $reference == *::* ]]; then
        # Names are put together from a body's and a role's by macros in C, and quotes are escaped in JavaScript.
        words=${reference#*::}
        sed "s/\\\\'/'/g" "$file" | grep -qF -- "$words" || complain "$reference: the file does not have that case"
    fi
done <<<"$references"

for kind in F:44 S:22; do
    for number in $(seq "${kind#*:}"); do
        row=$(grep -E "^\| ${kind%:*}$number \|" docs/reliability.md)
        [ "$(grep -c . <<<"$row")" -eq 1 ] || complain "${kind%:*}$number has not one row"
        # The rig's own page names each scenario as well; a row says in words what cannot be tested.
        [[ $row == *'::'* || $row == *faults/long/* || $row == *'cannot'* ]] || complain "${kind%:*}$number names no test"
    done
done
exit $status
