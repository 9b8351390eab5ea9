/* What a spawned worker inherits, those that replace it inherit, too, whatever has become of the program's numbers. */
#include "primary.h"

enum { FILES = 6 };

/* -- The worker: says which of the files it found under the numbers of CHECK_NUMBERS ------------------------------- */

static void tell_what_is_there(void) {
    int number, at = 0, more = 0;
    char text[128] = "";
    const char *numbers = getenv("CHECK_NUMBERS");
    while (sscanf(numbers + at, "%d%n", &number, &more) == 1) {
        char one[8] = "-";
        at += more;
        if (pread(number, one, 1, 0) != 1) one[0] = '?';
        one[1] = '\0';
        strcat(text, one);
        if ((fcntl(number, F_GETFD) & FD_CLOEXEC) != 0) strcat(text, "!");
    }
    OK(cl_send(text, strlen(text)));
    char wait[8];
    CHECK(cl_receive(wait, sizeof wait, -1) < 0);
    check_ignore_descriptors = 1;
}

/* A file that holds one letter. */
static int file_of(int letter) {
    char name[16], text[2] = {(char)letter, '\0'};
    snprintf(name, sizeof name, "file-%c", letter);
    int fd = SYS(open(case_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    CHECK_EQ(write(fd, text, 1), 1);
    return fd;
}

static int spawn_with(const int *numbers, int count, const char *listed) {
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.inherit = numbers;
    options.inherit_count = (size_t)count;
    SYS(setenv("CHECK_NUMBERS", listed, 1));
    return OK(cl_spawn(&options));
}

static void setup(int respawn) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = respawn;
    OK(cl_setup_primary(&settings));
}

static const char *said(int n) {
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, 0) > n, 8000);
    return seen[find_event(CL_EVENT_MESSAGE, 0, n)].data;
}

static void list(char *to, const int *numbers, int count) {
    *to = '\0';
    for (int i = 0; i < count; i++) sprintf(to + strlen(to), "%d ", numbers[i]);
}

/* The program closes its own as one does after posix_spawn(3), and the numbers come to mean the channels and pidfds of others. */
static void replaced(void) {
    if (worker_side()) {
        tell_what_is_there();
        return;
    }
    int numbers[FILES];
    char listed[64];
    primary_ready(leave_at_once);
    setup(CL_RESPAWN_ALWAYS);
    for (int i = 0; i < FILES; i++) numbers[i] = file_of('a' + i);
    list(listed, numbers, FILES);
    int first = spawn_with(numbers, FILES, listed);
    CHECK(strcmp(said(0), "abcdef") == 0);
    for (int i = 0; i < FILES; i++) SYS(close(numbers[i]));
    /* Others sit down on the numbers. */
    int second = spawn_with(NULL, 0, "");
    CHECK(strcmp(said(1), "") == 0);
    SYS(setenv("CHECK_NUMBERS", "nobody looks at this", 1));
    for (int round = 0, id = first; round < 3; round++) {
        OK(cl_worker_kill(id, SIGKILL));
        CHECK(strcmp(said(2 + round), "abcdef") == 0);
        id = seen[find_event(CL_EVENT_MESSAGE, 0, 2 + round)].worker_id;
        CHECK(id != first && id != second);
    }
    finish();
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
}

/* Everything below 64 that is not taken: whatever the primary makes for the next worker gets one of these numbers. */
static void every_number(void) {
    if (worker_side()) {
        tell_what_is_there();
        return;
    }
    int numbers[40];
    char listed[256], wanted[64];
    primary_ready(leave_at_once);
    setup(CL_RESPAWN_ALWAYS);
    for (int i = 0; i < 40; i++) numbers[i] = file_of('A' + i);
    list(listed, numbers, 40);
    for (int i = 0; i < 40; i++) wanted[i] = (char)('A' + i);
    wanted[40] = '\0';
    int id = spawn_with(numbers, 40, listed);
    CHECK(strcmp(said(0), wanted) == 0);
    for (int i = 0; i < 40; i++) SYS(close(numbers[i]));
    OK(cl_worker_kill(id, SIGKILL));
    CHECK(strcmp(said(1), wanted) == 0);
    finish();
}

/* The number means another file by then: the first is meant. */
static void another_file(void) {
    if (worker_side()) {
        tell_what_is_there();
        return;
    }
    int number, other;
    char listed[16];
    primary_ready(leave_at_once);
    setup(CL_RESPAWN_ALWAYS);
    number = file_of('x');
    list(listed, &number, 1);
    int id = spawn_with(&number, 1, listed);
    CHECK(strcmp(said(0), "x") == 0);
    other = file_of('y');
    SYS(dup2(other, number));
    OK(cl_worker_kill(id, SIGKILL));
    CHECK(strcmp(said(1), "x") == 0);
    close(other);
    close(number);
    finish();
}

/* -- A pipe whose reader waits for its end -------------------------------------------------------------------------- */

static void ends_with_the_worker(void) {
    if (worker_side()) {
        check_ignore_descriptors = 1;
        return;
    }
    int ends[2];
    char listed[16], any;
    primary_ready(leave_at_once);
    setup(CL_RESPAWN_NEVER);
    SYS(pipe2(ends, O_CLOEXEC));
    list(listed, &ends[1], 1);
    int id = spawn_with(&ends[1], 1, listed);
    close(ends[1]);
    /* Without a turn of the primary's. */
    CHECK_EQ(readable_within(ends[0], 8000), 1);
    CHECK_EQ(read(ends[0], &any, 1), 0);
    close(ends[0]);
    await_exit(id, 5000);
    finish();
}

static void ends_when_nobody_is_replaced(void) {
    if (worker_side()) {
        tell_what_is_there();
        exit(0);
    }
    int ends[2];
    char listed[16], any;
    primary_ready(leave_at_once);
    setup(CL_RESPAWN_ALWAYS);
    SYS(pipe2(ends, O_CLOEXEC));
    list(listed, &ends[1], 1);
    spawn_with(&ends[1], 1, listed);
    close(ends[1]);
    CHECK(strcmp(said(0), "?") == 0);
    CHECK_EQ(readable_within(ends[0], 0), 0);
    finish();
    CHECK_EQ(readable_within(ends[0], 8000), 1);
    CHECK_EQ(read(ends[0], &any, 1), 0);
    close(ends[0]);
}

/* Nothing was kept for the case that respawn is set later; the program is told, and no number is taken for what it was. */
static void respawn_set_later(void) {
    if (worker_side()) {
        tell_what_is_there();
        return;
    }
    char listed[16];
    primary_ready(leave_at_once);
    int number = file_of('z');
    list(listed, &number, 1);
    setup(CL_RESPAWN_NEVER);
    int id = spawn_with(&number, 1, listed);
    CHECK(strcmp(said(0), "z") == 0);
    setup(CL_RESPAWN_ALWAYS);
    OK(cl_worker_kill(id, SIGKILL));
    PUMP_UNTIL(count_events(CL_EVENT_WARNING, 0) > 0, 5000);
    CHECK(strstr(seen[find_event(CL_EVENT_WARNING, 0, 0)].data, "could not be replaced") != NULL);
    CHECK_EQ(count_events(CL_EVENT_MESSAGE, 0), 1);
    close(number);
    finish();
}

static const check_case_t cases[] = {
    {"replaced", replaced}, {"every_number", every_number}, {"another_file", another_file},
    {"ends_with_the_worker", ends_with_the_worker}, {"ends_when_nobody_is_replaced", ends_when_nobody_is_replaced},
    {"respawn_set_later", respawn_set_later},
};
CHECK_MAIN(cases)
