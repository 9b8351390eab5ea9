/* Nobody can speak with a cluster who was not handed a descriptor: primary and workers listen on nothing that was not asked for,
 * and their sockets between them have no name. */
#include "primary.h"

static int port_served; /* what was asked for */

/* Looks at every socket of this process; how many listen. Others than on that port, and others with a name, fail the case. */
static int look_for_doors(void) {
    int doors = 0;
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_storage name;
        int listening = 0, domain = 0;
        socklen_t length = sizeof domain;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) continue;
        length = sizeof listening;
        SYS(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length));
        length = sizeof name;
        SYS(getsockname(fd, (struct sockaddr *)&name, &length));
        if (domain == AF_UNIX) {
            /* Not even an abstract name, which a bind without one would give. */
            if (listening || length != sizeof(sa_family_t)) check_fail(__FILE__, __LINE__, "descriptor %d is a unix socket with a name", fd);
        } else if (domain != AF_INET || port_of(&name) != port_served) {
            check_fail(__FILE__, __LINE__, "descriptor %d is a socket of family %d, port %d", fd, domain, port_of(&name));
        }
        doors += listening;
    }
    return doors;
}

static int look_and_serve(void) {
    OK(cl_send("", 0)); /* the channel is in use */
    CHECK_EQ(look_for_doors(), 0);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    port_served = bound_port(listener);
    /* In rotation it has two descriptors of the same. */
    CHECK(look_for_doors() <= (expected_mechanism() == CL_MECHANISM_ROTATION ? 2 : 1));
    return serve_listener(listener);
}

static void in_a_cluster(int policy, int spawned) {
    use_policy(policy);
    primary_ready(look_and_serve);
    CHECK_EQ(look_for_doors(), 0);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    port_served = await_listening(one, 1);
    CHECK_EQ(await_listening(two, 1), port_served);
    int kernel = policy == CL_SCHED_RR && expected_mechanism() == CL_MECHANISM_KERNEL;
    CHECK_EQ(look_for_doors(), kernel ? 3 : 1);
    for (int i = 0; i < 4; i++) ask(port_served);
    CHECK_EQ(look_for_doors(), kernel ? 3 : 1);
    finish();
    CHECK_EQ(look_for_doors(), 0);
}

static void forked(void) { in_a_cluster(CL_SCHED_RR, 0); }
static void shared(void) { in_a_cluster(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (worker_side()) exit(look_and_serve());
    in_a_cluster(CL_SCHED_RR, 1);
}

static const check_case_t cases[] = {{"forked", forked}, {"shared", shared}, {"spawned", spawned}};
CHECK_MAIN(cases)
