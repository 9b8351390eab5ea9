/* A program of two translation units that both include cluster.h: one process, one identity, one set of listeners. */
#include "primary.h"

#ifdef __cplusplus
extern "C" {
#endif
int part_listen(const char *address);
int part_accept(int listener);
int part_close(int listener);
int part_worker_id(void);
int part_send(const void *data, size_t length);
const char *part_last_error(void);
#ifdef __cplusplus
}
#endif

/* What one half opens the other accepts from and closes, and the other way round. */
static void both_halves(void) {
    CHECK_EQ(part_worker_id(), cl_worker_id());
    int here = OK(cl_listen("127.0.0.1:0", 0)), there = OK(part_listen("127.0.0.1:0"));
    CHECK(bound_port(here) != bound_port(there));
    int client = connect4(bound_port(here));
    answer(OK(part_accept(here)));
    close(client);
    client = connect4(bound_port(there));
    answer(OK(cl_accept(there, NULL, NULL)));
    close(client);
    OK(part_close(here));
    CHECK_EQ(cl_accept(here, NULL, NULL), -EBADF);
    OK(cl_close(there));
    CHECK_EQ(part_accept(there), -EBADF);
    if (cl_is_worker() == 1) {
        OK(part_send("from there", 10));
        OK(cl_send("from here", 9));
    }
    /* One thread has one last error, whoever asks. */
    CHECK_EQ(part_listen("nonsense-there"), -EINVAL);
    CHECK(strstr(cl_last_error(), "nonsense-there") != NULL);
    CHECK_EQ(cl_listen("nonsense-here", 0), -EINVAL);
    CHECK(strstr(part_last_error(), "nonsense-here") != NULL);
}
IN_WORKERS(both_halves)

static const check_case_t cases[] = {ROLE_CASES(both_halves)};
CHECK_MAIN(cases)
