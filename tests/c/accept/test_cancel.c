/* pthread_cancel(3) of a thread inside of a call: the call goes on as if nothing had happened, gives back what it holds, and the thread
 * ends at its next cancellation point. */
#include "primary.h"
#include <pthread.h>

static int listener;
static int results[4]; /* what a call of a cancelled thread returned */
static int inside;     /* threads that have begun */

static void begun(void) { __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST); }
static void await_begun(int count) {
    WAIT_UNTIL(__atomic_load_n(&inside, __ATOMIC_SEQ_CST) == count, 5000);
    nap(30); /* and into the wait, as a rule; it makes no difference to what is checked */
}

/* The thread is gone by cancellation, not by itself: behind the call it comes to a point of its own. */
static void *accept_and_point(void *result) {
    begun();
    *(int *)result = cl_accept(listener, NULL, NULL);
    pthread_testcancel();
    return NULL;
}

static void *receive_and_point(void *result) {
    char text[16];
    begun();
    *(int *)result = cl_receive(text, sizeof text, -1);
    pthread_testcancel();
    return NULL;
}

static void expect_cancelled(pthread_t thread) {
    void *how = NULL;
    CHECK_EQ(pthread_join(thread, &how), 0);
    CHECK(how == PTHREAD_CANCELED);
}

static pthread_t start(void *(*body)(void *), int *result) {
    pthread_t thread;
    *result = -1;
    CHECK_EQ(pthread_create(&thread, NULL, body, result), 0);
    return thread;
}

static int cancelled_acceptors(void) {
    int state;
    listener = OK(cl_listen("127.0.0.1:0", 0));
    int port = bound_port(listener);
    inside = 0;
    pthread_t one = start(accept_and_point, &results[0]), two = start(accept_and_point, &results[1]);
    await_begun(2);
    CHECK_EQ(pthread_cancel(one), 0);
    CHECK_EQ(pthread_cancel(two), 0);
    /* One of them still takes the next connection, and it is not lost. */
    int client = connect4(port);
    WAIT_UNTIL(results[0] >= 0 || results[1] >= 0, 5000);
    int taken = results[0] >= 0 ? 0 : 1;
    expect_cancelled(taken == 0 ? one : two);
    close(results[taken]);
    close(client);
    /* The other one's wait ends with the listener, for which nobody waits longer than for any thread. */
    long long before = now_ms();
    CHECK_EQ(cl_close(listener), 0);
    CHECK(now_ms() - before < 3000LL * check_slow());
    expect_cancelled(taken == 0 ? two : one);
    CHECK_EQ(results[!taken], -EBADF);
    /* What this thread had found is as it was. */
    CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state), 0);
    CHECK_EQ(state, PTHREAD_CANCEL_ENABLE);
    CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL), 0);
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EBADF);
    CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state), 0);
    CHECK_EQ(state, PTHREAD_CANCEL_DISABLE);
    return 0;
}

static void alone(void) { cancelled_acceptors(); }

static int cancelled_in_worker(void) {
    int code = cancelled_acceptors();
    inside = 0;
    pthread_t thread = start(receive_and_point, &results[2]);
    await_begun(1);
    CHECK_EQ(pthread_cancel(thread), 0);
    OK(cl_send("ready", 5));
    expect_cancelled(thread);
    CHECK_EQ(results[2], 5); /* the message was not lost either */
    return code;
}

static void worker(int spawned, int policy) {
    if (spawned && worker_side()) {
        cancelled_in_worker();
        return;
    }
    use_policy(policy);
    primary_ready(cancelled_in_worker);
    int id = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 10000);
    OK(cl_worker_send(id, "hello", 5));
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    finish();
}

static void forked(void) { worker(0, CL_SCHED_RR); }
static void spawned(void) { worker(1, CL_SCHED_RR); }
static void forked_shared(void) { worker(0, CL_SCHED_NONE); }
static void spawned_shared(void) { worker(1, CL_SCHED_NONE); }

/* -- The primary's thread ------------------------------------------------------------------------------------------- */

static void *run_and_point(void *result) {
    begun();
    *(int *)result = cl_run();
    pthread_testcancel();
    return NULL;
}

static void primary(void) {
    if (worker_side()) {
        serve_any_port();
        return;
    }
    primary_ready(leave_at_once);
    int id = spawn_worker(), port = await_listening(id, 1);
    inside = 0;
    pthread_t thread = start(run_and_point, &results[0]);
    await_begun(1);
    CHECK_EQ(pthread_cancel(thread), 0);
    /* It serves on, and so do the calls of other threads. */
    char text[96];
    int client = connect4(port);
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
    CHECK_EQ(atoi(text), id);
    CHECK_EQ(cl_worker_ids(NULL, 0), 1);
    OK(cl_stop(2000));
    expect_cancelled(thread);
    CHECK_EQ(results[0], 0);
}

static const check_case_t cases[] = {
    {"alone", alone}, {"forked", forked}, {"spawned", spawned}, {"forked_shared", forked_shared},
    {"spawned_shared", spawned_shared}, {"primary", primary},
};
CHECK_MAIN(cases)
