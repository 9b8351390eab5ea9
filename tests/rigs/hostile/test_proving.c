/* A worker that is to take another's place and breaks the protocol, lies, or does nothing: the reload is refused, nothing is taken from
 * those who serve, and all of them go on. */
#include "rig.h"

static share_t share;

static void take_share(void) {
    greet();
    share = join_siblings();
}

/* -- What it does ------------------------------------------------------------------------------------------------- */

static void says_nothing(void) { take_hello(); }
static void listens_on_nothing(void) { greet(); }
static void never_gets_ready(void) { take_share(); }

/* In the page stands all that a worker can say of itself. */
static void scribble(void) {
    unsigned char *page = (unsigned char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, board_file, 0);
    CHECK(page != MAP_FAILED);
    done();
    while (!over()) {
        for (int i = 0; i < 4096; i += 4) put_u32(page + i, (unsigned)i * 2654435761U | 1U);
        nap(5);
    }
    _exit(0);
}

/* It is ready, as its page says, and listens on nothing. */
static void lies(void) {
    greet();
    scribble();
}

/* It is ready and hangs up. */
static void shuts_its_mailbox(void) {
    take_share();
    for (int i = 0; i < 20; i++) {
        say_number(CLOSE, share.listener);
        nap(2);
    }
}

/* It has no turns yet, so there is no place in line for it. */
static void seats(void) {
    take_share();
    if (in_rotation()) say_number(SEAT, share.listener);
}

static void pauses_and_resumes(void) {
    take_share();
    done();
    ATTACK {
        say_number(PAUSE, share.listener);
        say_number(RESUME, share.listener);
        say_number(UNSEAT, share.listener);
    }
}

/* Of others. */
static void speaks_of_others(void) {
    take_share();
    say_number(CLOSE, share.listener - 1);
    say_number(PAUSE, share.listener - 1);
    say_number(CLOSE, 1);
}

static void listens_all_the_time(void) {
    take_share();
    done();
    for (unsigned number = 2; number < 40; number++) (void)join(number, number, "127.0.0.1:0");
}

typedef struct {
    const char *name;
    void (*body)(void);
    const char *why; /* a word of the reason */
    int leaves_addresses; /* which wait half a minute for a successor */
} proof_t;

static const proof_t proofs[] = {
    {"says nothing", says_nothing, "", 0},
    {"listens on nothing", listens_on_nothing, "listens on nothing", 0},
    {"never gets ready", never_gets_ready, "has not said that it is ready", 0},
    {"lies", lies, "listens on nothing", 0},
    {"shuts its mailbox", shuts_its_mailbox, "", 0},
    {"seats", seats, "", 0},
    {"pauses and resumes", pauses_and_resumes, "", 0},
    {"speaks of others", speaks_of_others, "", 0},
    {"listens all the time", listens_all_the_time, "", 1},
};
enum { PROOFS = sizeof proofs / sizeof proofs[0] };

/* -- What becomes of it ------------------------------------------------------------------------------------------- */

static int reload_phase;
static char reload_why[256];

static void watch_reload(const cl_event_t *event, void *user) {
    watch_event(event, user);
    if (event->type != CL_EVENT_RELOAD) return;
    reload_phase = event->phase;
    snprintf(reload_why, sizeof reload_why, "%.*s", (int)event->length, event->length > 0 ? (const char *)event->data : "");
}

static int reload_to(const char *attack) {
    static char program[] = "hostile", role[] = "_hostile";
    char *argv[] = {program, role, NULL};
    cl_spawn_options_t anew;
    cl_reload_options_t options;
    ZERO(anew);
    anew.size = sizeof anew;
    anew.argv = argv;
    ZERO(options);
    options.size = sizeof options;
    options.program = &anew;
    options.ready_timeout_ms = 400;
    options.min_ready_ms = 300;
    SYS(setenv("HOSTILE_ATTACK", attack, 1));
    atomic_store(&book->ready, 0);
    reload_phase = 0;
    OK(cl_reload(&options));
    RIG_UNTIL(reload_phase >= CL_RELOAD_DONE, 8000);
    return reload_phase;
}

static int workers_are_siblings(void) {
    int ids[16], count = OK(cl_worker_ids(ids, 16)), known = 0;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < SIBLINGS; j++) known += ids[i] == siblings[j];
    return count == SIBLINGS && known == SIBLINGS;
}

static void prove(const char *mechanism) {
    cl_settings_t settings;
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    begin_rig(mechanism);
    OK(cl_on_event(watch_reload, NULL));
    ZERO(settings);
    settings.size = sizeof settings;
    settings.flags = CL_MANUAL_READY;
    settings.stop_deadline_ms = 300;
    OK(cl_setup_primary(&settings));
    for (int i = 0; i < PROOFS; i++) {
        const char *only = getenv("HOSTILE_ONLY");
        if (only != NULL && strcmp(only, proofs[i].name) != 0) continue;
        int descriptors = count_descriptors();
        longest_turn_us = longest_work_us = 0;
        if (reload_to(proofs[i].name) != CL_RELOAD_REFUSED) check_fail(proofs[i].name, 0, "phase %d: %s", reload_phase, reload_why);
        /* An offence, where it was told to wait for its turns. */
        const char *why = proofs[i].body == seats && in_rotation() ? "was ended by signal 9" : proofs[i].why;
        if (strstr(reload_why, why) == NULL) check_fail(proofs[i].name, 0, "why: %s", reload_why);
        RIG_UNTIL(workers_are_siblings(), 10000);
        long answered = atomic_load(&book->answered);
        RIG_UNTIL(atomic_load(&book->answered) > answered + 40, 6000);
        expect_service(proofs[i].name);
        for (long long deadline = now_ms() + 4000 * check_slow(); count_descriptors() > descriptors && !proofs[i].leaves_addresses; rig_turn(10))
            if (now_ms() > deadline) check_fail(proofs[i].name, 0, "%d descriptors instead of %d", count_descriptors(), descriptors);
        if (longest_turn_us > TURN_LIMIT_MS * 1000LL * check_slow())
            check_fail(proofs[i].name, 0, "a turn of the primary took %lld us", longest_turn_us);
    }
    end_rig();
}

static void none(void) { prove("none"); }
static void passed(void) { prove("passed"); }
static void kernel(void) { prove("kernel"); }
static void rotation(void) { prove("rotation"); }

static void hostile_role(void) {
    attack_t attacks[PROOFS];
    memset(attacks, 0, sizeof attacks);
    for (int i = 0; i < PROOFS; i++) {
        attacks[i].name = proofs[i].name;
        attacks[i].body = proofs[i].body;
    }
    be_hostile(attacks, PROOFS);
}

static const check_case_t cases[] = {
    {"none", none}, {"passed", passed}, {"kernel", kernel}, {"rotation", rotation}, {"_hostile", hostile_role},
};
CHECK_MAIN(cases)
