#!/bin/bash
# Compiles and runs the C tests. From the root of the repository:
#
#   tests/c/run.sh [valgrind|asan] [test_name | folder ...]
#
# MODES   how a test finds the library: shared (-lcluster), static (libcluster.a), header (CL_HEADER_ONLY, nothing
#         linked; the primary's functions are found in libcluster.so.0 at run time). Default: all three, of which static
#         runs a few tests only unless they are named: how a program is linked does not show in more.
# BUILD   where the programs go (target/c)      LIBDIR  where libcluster.so and libcluster.a are (target/release)
# CC CXX  the compilers (cc, c++)               JOBS    how many tests run at a time (2)
set -u
here=$(dirname "$0")
what=run
case "${1:-}" in valgrind | asan) what=$1; shift ;; esac
build=$(realpath -m "${BUILD:-target/c}")
libdir=$(realpath -m "${LIBDIR:-target/release}")
cc=${CC:-cc}
cxx=${CXX:-c++}
jobs=${JOBS:-2}
include=$(realpath "$here/../../include")
warnings="-Wall -Wextra -Wpedantic -Werror"
limit=60
export CHECK_SLOW=${CHECK_SLOW:-1}
export CHECK_RUN=$$.$EPOCHREALTIME # by this the processes of this run are known at its end
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD

static_only=""
of_static="test_accept test_errors test_fork test_identity test_kernel test_messages test_primary_death test_serve test_spawn test_threads"
case $what in
run) modes=${MODES:-shared static header}; [ -n "${MODES:-}" ] || [ $# -gt 0 ] || static_only="$of_static" ;;
valgrind) modes=${MODES:-shared}; limit=900; CHECK_SLOW=10; export CHECK_UNDER=valgrind ;;
asan) modes=${MODES:-shared header}; limit=240; CHECK_SLOW=4 ;;
esac

names=()
declare -A folder_of
for file in "$here"/*/test_*.c; do
    name=$(basename "$file" .c)
    folder=$(basename "$(dirname "$file")")
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || [[ " $* " == *" $folder "* ]] || continue
    [ -z "${folder_of[$name]:-}" ] || { echo "two tests are called $name"; echo "0 passed, 1 failed"; exit 1; }
    folder_of[$name]=$folder
    names+=("$name")
done

out=$build/$what
logs=$out/logs
mkdir -p "$logs"
rm -f "$logs"/*
[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"

# -- Compile: each mode in a standard of its own to link, and all of the others, C++ too, for their opinion.
compile() { # mode name
    local mode=$1 name=$2 folder=$here/${folder_of[$2]} program=$out/$1/$2 standard flags="-I$here" link=""
    case $mode in
    shared) standard=c99 link="-L$libdir -lcluster -Wl,-rpath,$libdir" ;;
    static) standard=c11 link="$libdir/libcluster.a -lpthread -ldl -lm -lrt -lutil -lgcc_s" ;;
    header) standard=c17 flags="$flags -DCL_HEADER_ONLY" link="-ldl" ;;
    *) echo "unknown mode $mode"; return 1 ;;
    esac
    local newer=0 input sources=("$folder/$name.c")
    # A test of more than one translation unit has its others in part_*.c.
    [ -e "$folder/${name/#test_/part_}.c" ] && sources+=("$folder/${name/#test_/part_}.c")
    # One that loads a plugin has that in plugin_*.c, and finds it as NAME.so beside itself, made as the program is, and as
    # NAME.header.so with CL_HEADER_ONLY.
    local plugin=$folder/${name/#test_/plugin_}.c
    [ -e "$plugin" ] || plugin=""
    for input in "${sources[@]}" $plugin "$here"/*.h "$include/cluster.h"; do [ "$input" -nt "$program" ] && newer=1; done
    [ "$mode" = static ] && [ "$libdir/libcluster.a" -nt "$program" ] && newer=1
    [ $newer -eq 0 ] && return 0
    mkdir -p "$out/$mode"
    if [ "$what" = run ] && [ "$mode" != static ]; then
        for other in c99 c11 c17; do
            [ $other = $standard ] || $cc -std=$other $warnings $flags -fsyntax-only -I"$include" "${sources[@]}" || return 1
        done
        $cxx -x c++ -std=c++17 $warnings $flags -fsyntax-only -I"$include" "${sources[@]}" || return 1
    fi
    [ "$what" = asan ] && flags="$flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
    if [ -n "$plugin" ]; then
        $cc -std=$standard $warnings -g -O1 $flags -fPIC -shared -I"$include" "$plugin" -o "$program.so" -lpthread $link || return 1
        $cc -std=$standard $warnings -g -O1 -DCL_HEADER_ONLY ${flags/-DCL_HEADER_ONLY/} -fPIC -shared -I"$include" "$plugin" \
            -o "$program.header.so" -lpthread -ldl || return 1
    fi
    $cc -std=$standard $warnings -g -O1 $flags -I"$include" "${sources[@]}" -o "$program" -lpthread -ldl $link
}

# -- Run one: a line when all is well, everything it said when not.
run_one() { # mode name
    local mode=$1 name=$2 text code=0 start=$EPOCHREALTIME
    local program=$out/$mode/$name log=$logs/$mode.$name
    if ! text=$(compile "$mode" "$name" 2>&1); then
        printf 'FAIL %s %s: does not compile\n%s\n' "$mode" "$name" "$text"
        return 1
    fi
    local command=("$program")
    [ "$mode" = header ] && export LD_LIBRARY_PATH=$libdir
    case $what in
    valgrind) command=(valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite
        --trace-children=yes --vgdb=no "--trace-children-skip=/bin/*,/usr/bin/*" "--log-file=$log.%p" "$program") ;;
    asan)
        export ASAN_OPTIONS=log_path=$log:exitcode=99:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1:log_path=$log
        # The leak sanitizer makes a thread that looks at the others with ptrace(2), which the filter does not allow.
        [ "$name" != test_seccomp ] || export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
        ;;
    esac
    text=$(timeout --kill-after=5 $((limit)) "${command[@]}" 2>&1) || code=$?
    # What a memory checker said about a worker stands in a file of that process.
    local found="" file
    for file in "$log".*; do
        # The leak checker also notes there what it could not look at.
        grep -qE 'ERROR: |runtime error|^==[0-9]+== [^ ]' "$file" 2>/dev/null && found+=$(grep -v '^--' "$file")$'\n'
    done
    local cases skipped seconds
    cases=$(grep -c '^  ok ' <<<"$text")
    skipped=$(sed -n 's/^  skip [^:]*: //p' <<<"$text" | sort | uniq -c | sed 's/^ *\([0-9]*\) /; \1 skipped: /' | tr -d '\n')
    seconds=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $start }")
    if [ $code -eq 77 ]; then
        printf 'skip %s %s%s\n' "$mode" "$name" "$skipped"
    elif [ $code -ne 0 ] || [ -n "$found" ]; then
        [ $code -eq 124 ] && text+=$'\n  '"not ready after $limit seconds"
        printf 'FAIL %s %s (%s s, exit code %d)\n%s\n%s' "$mode" "$name" "$seconds" $code "$text" "$found"
        return 1
    else
        printf 'ok   %s %s: %d cases in %s s%s\n' "$mode" "$name" "$cases" "$seconds" "$skipped"
    fi
}

results=$(mktemp "$out/results.XXXXXX")
running=0
for mode in $modes; do
    for name in "${names[@]}"; do
        [ $mode != static ] || [ -z "$static_only" ] || [[ " $static_only " == *" $name "* ]] || continue
        if [ $running -ge "$jobs" ]; then
            wait -n
            running=$((running - 1))
        fi
        (
            # One write a test, so that two that end together do not mix.
            text=$(run_one "$mode" "$name")
            code=$?
            printf '%s\n' "$text"
            [ $code -eq 0 ] && echo passed >>"$results" || echo "failed $mode $name" >>"$results"
        ) &
        running=$((running + 1))
    done
done
wait

# -- Nobody may be left.
left=""
for environ in /proc/[0-9]*/environ; do
    pid=${environ//[!0-9]/}
    [ "$pid" = $$ ] || [ "$pid" = $BASHPID ] && continue
    { tr '\0' '\n' <"$environ" | grep -qx "CHECK_RUN=$CHECK_RUN"; } 2>/dev/null && left+=" $pid"
done
if [ -n "$left" ]; then
    echo "FAIL processes are left:$left"
    echo "failed processes" >>"$results"
fi
passed=$(grep -c '^passed' "$results")
failed=$(grep -c '^failed' "$results")
sed -n 's/^failed /  failed: /p' "$results"
rm -f "$results"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
