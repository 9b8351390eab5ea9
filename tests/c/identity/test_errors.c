/* Codes, names and sentences. */
#include "primary.h"
#include <pthread.h>

static void any_code(void) {
    static const int odd[] = {INT_MIN, INT_MIN + 1, INT_MAX, -1000000, -4095, -4096, -4097, -4098, -4099, -4100, -5000, 100000};
    for (int code = -4600; code <= 4600; code++) {
        CHECK(cl_strerror(code) != NULL && cl_strerror(code)[0] != '\0');
        CHECK(cl_err_name(code) != NULL && cl_err_name(code)[0] != '\0');
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        CHECK(cl_strerror(odd[i]) != NULL && cl_strerror(odd[i])[0] != '\0');
        CHECK(cl_err_name(odd[i]) != NULL && cl_err_name(odd[i])[0] != '\0');
    }
}

static void names(void) {
    /* Each errno value of this system has the name the system itself gives it. */
    for (int number = 1; number < 134; number++) {
        const char *name = strerrorname_np(number);
        if (name == NULL) continue;
        if (strcmp(name, cl_err_name(-number)) != 0)
            check_fail(__FILE__, __LINE__, "cl_err_name(-%d) is %s, not %s", number, cl_err_name(-number), name);
    }
    CHECK(strcmp(cl_err_name(CL_ENOLIB), "CL_ENOLIB") == 0);
    CHECK(strcmp(cl_err_name(CL_ETHREADS), "CL_ETHREADS") == 0);
    CHECK(strcmp(cl_err_name(CL_EVERSION), "CL_EVERSION") == 0);
    CHECK(strcmp(cl_err_name(CL_EPANIC), "CL_EPANIC") == 0);
    CHECK(CL_ENOLIB < -4095 && CL_ETHREADS < -4095 && CL_EVERSION < -4095 && CL_EPANIC < -4095);
}

/* The texts are static: asking for another does not change the first. */
static void texts_stay(void) {
    char copy[512];
    const char *first = cl_strerror(-EADDRINUSE), *name = cl_err_name(-EADDRINUSE);
    snprintf(copy, sizeof copy, "%s|%s", first, name);
    for (int code = -200; code < 0; code++) {
        cl_strerror(code);
        cl_err_name(code);
        cl_strerror(code * 1000);
    }
    char again[512];
    snprintf(again, sizeof again, "%s|%s", first, name);
    CHECK(strcmp(copy, again) == 0);
    CHECK(first == cl_strerror(-EADDRINUSE));
    CHECK(name == cl_err_name(-EADDRINUSE));
    CHECK(strcmp(cl_strerror(-EADDRINUSE), cl_strerror(-EACCES)) != 0);
    CHECK(strcmp(cl_strerror(CL_ETHREADS), cl_strerror(CL_EVERSION)) != 0);
}

static void *in_other_thread(void *argument) {
    (void)argument;
    CHECK(cl_last_error() != NULL);
    CHECK(cl_last_error()[0] == '\0');
    CHECK_EQ(cl_listen("127.0.0.1:99999", 0), -EINVAL);
    CHECK(strstr(cl_last_error(), "99999") != NULL);
    return NULL;
}

/* The sentence is this thread's, names what was wrong, and outlives calls that succeed. */
static void sentences(void) {
    pthread_t thread;
    char copy[512];
    CHECK(cl_last_error() != NULL && cl_last_error()[0] == '\0');
    CHECK_EQ(cl_listen("no-port-here", 0), -EINVAL);
    CHECK(strstr(cl_last_error(), "no-port-here") != NULL);
    snprintf(copy, sizeof copy, "%s", cl_last_error());
    CHECK_EQ(pthread_create(&thread, NULL, in_other_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(strcmp(copy, cl_last_error()) == 0);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    CHECK(strcmp(copy, cl_last_error()) == 0);
    OK(cl_close(listener));
    int occupied = plain_listener(0);
    char address[64], port[16];
    snprintf(port, sizeof port, "%d", system_port(occupied));
    snprintf(address, sizeof address, "127.0.0.1:%s", port);
    CHECK_EQ(cl_listen(address, 0), -EADDRINUSE);
    CHECK(strstr(cl_last_error(), port) != NULL);
    close(occupied);
}

/* What the primary found wrong reaches the worker as words too. */
static void sentence_from_primary(void) {
    int occupied = plain_listener(0);
    char address[64], port[16];
    snprintf(port, sizeof port, "%d", system_port(occupied));
    snprintf(address, sizeof address, "127.0.0.1:%s", port);
    CHECK_EQ(cl_listen(address, 0), -EADDRINUSE);
    CHECK(strstr(cl_last_error(), port) != NULL);
    close(occupied);
}
IN_WORKERS(sentence_from_primary)

static void version(void) {
    unsigned major, minor, patch;
    CHECK_EQ(sscanf(cl_version(), "%u.%u.%u", &major, &minor, &patch), 3);
    CHECK_EQ(cl_version_number(), major << 16 | minor << 8 | patch);
    CHECK(cl_version() == cl_version());
}

static const check_case_t cases[] = {
    {"any_code", any_code},   {"names", names},
    {"texts_stay", texts_stay}, {"sentences", sentences},
    WORKER_CASES(sentence_from_primary), {"version", version},
};
CHECK_MAIN(cases)
