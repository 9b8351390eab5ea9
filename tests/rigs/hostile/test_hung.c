/* A worker that takes its share and stands still, among many clients at a time, and comes back. What waits for it goes to the
 * siblings, and once that is seen nobody new waits for it until it has taken something itself. */
#define RIG_CLIENTS 24
#include "rig.h"

enum { HANGS_MS = 1500, SIGN = 1 /* which shows that it is back */ };

static void hangs(void) {
    greet();
    share_t share = join_siblings();
    done();
    while (atomic_load(&book->wanted) == 0) nap(2);
    ATTACK {
        swallow(&share);
        nap(1);
    }
}

static int waiting_for(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return (int)info.waiting;
}

static void hung(const char *mechanism) {
    int most = 0, least = -1;
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    /* So that what has come to one does not go to the siblings in one turn of the primary. */
    rig_window = 4;
    begin_rig(mechanism);
    /* What moves to a worker when another's socket is shut down the primary takes in its stead, also where it does not hang. */
    for (long long end = now_ms() + 300 * check_slow(); now_ms() < end;) rig_turn(5);
    int id = start_hostile("hangs");
    RIG_UNTIL(atomic_load(&book->ready), 3000);
    long answered = atomic_load(&book->answered);
    for (long long end = now_ms() + HANGS_MS * check_slow(); now_ms() < end;) {
        rig_turn(5);
        int waiting = waiting_for(id);
        /* It takes nothing, so those who do not wait for it any more were given to others. */
        if (least >= 0 && waiting > least + SIGN)
            check_fail(__FILE__, __LINE__, "%d wait for a worker that is known to hang since %d did", waiting, least);
        if (waiting < most && (least < 0 || waiting < least)) least = waiting;
        if (waiting > most) most = waiting;
    }
    CHECK(least >= 0);
    CHECK(atomic_load(&book->answered) > answered + 200);
    expect_service("hangs");
    atomic_store(&book->wanted, 1);
    RIG_UNTIL(atomic_load(&book->taken) > 0, 3000);
    OK(cl_worker_kill(id, SIGKILL));
    RIG_UNTIL(exits > 0, 3000);
    answered = atomic_load(&book->answered);
    RIG_UNTIL(atomic_load(&book->answered) > answered + 100, 3000);
    expect_service("hangs");
    end_rig();
}

static void passed(void) { hung("passed"); }
static void kernel(void) { hung("kernel"); }
static void rotation(void) { hung("rotation"); }

static const attack_t attacks[] = {{"hangs", hangs, LIVES, 0, 0}};
HOSTILE_ROLE(attacks)

static const check_case_t cases[] = {{"passed", passed}, {"kernel", kernel}, {"rotation", rotation}, {"_hostile", hostile_role}};
CHECK_MAIN(cases)
