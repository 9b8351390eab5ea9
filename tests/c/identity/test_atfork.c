/* A worker made by fork(2) has what the program's own pthread_atfork(3) handlers made in it, wherever the kernel put that: also where
 * the primary had memory that is not for workers. */
#include "kernel.h"
#include <pthread.h>

enum { MAPPINGS = 24, BYTES = 32768 };
static unsigned char *made[MAPPINGS];

/* As allocators, tracers and libraries with memory for each process do. */
static void in_child(void) {
    for (int i = 0; i < MAPPINGS; i++) {
        void *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) _exit(9);
        made[i] = (unsigned char *)at;
        memset(made[i], i + 1, BYTES);
    }
}

static int all_is_there(void) {
    for (int i = 0; i < MAPPINGS; i++) {
        if (msync(made[i], BYTES, MS_ASYNC) != 0) return 0; /* ENOMEM: not mapped */
        for (int byte = 0; byte < BYTES; byte += 512)
            if (made[i][byte] != i + 1) return 0;
    }
    return 1;
}

static int look_and_serve(void) {
    if (!all_is_there()) return 2;
    int code = serve_any_port();
    return code != 0 ? code : all_is_there() ? 0 : 3;
}

static void handlers_of_the_program(const char *mechanism, int forced) {
    use_mechanism(mechanism);
    SYS(pthread_atfork(NULL, NULL, in_child));
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    if (forced) settings.mechanism = CL_MECHANISM_KERNEL; /* what addresses to come need is made at once */
    OK(cl_setup_primary(&settings));
    OK(cl_on_event(remember_event, NULL));
    worker_main = look_and_serve;
    int first = fork_worker(), port = await_listening(first, 1);
    CHECK_EQ(ask(port), first);
    /* One that is made while addresses are open, and one that replaces another. */
    int second = fork_worker();
    await_listening(second, 1);
    OK(cl_worker_kill(first, SIGKILL));
    await_exit(first, 5000);
    PUMP_UNTIL(count_events(CL_EVENT_LISTENING, 0) == 3, 5000);
    finish();
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_EXIT && seen[i].worker_id != first) CHECK_EQ(seen[i].exit_code, 0);
    check_ignore_descriptors = 1;
}

static void passed(void) { handlers_of_the_program("passed", 0); }

static void kernel(void) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    handlers_of_the_program("kernel", 0);
}

static void kernel_prepared(void) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    handlers_of_the_program("kernel", 1);
}

static const check_case_t cases[] = {{"passed", passed}, {"kernel", kernel}, {"kernel_prepared", kernel_prepared}};
CHECK_MAIN(cases)
