/* Clients that connect all the time while something is done to a cluster: each connection has to be answered. */
#ifndef LOAD_H
#define LOAD_H

#include "net.h"

enum { LOAD_CLIENTS = 3 };

typedef struct {
    int port, over, error; /* of the last one that failed; 0: an end without an answer */
    long long answered, failed;
} load_t;
static load_t *load;
static pid_t load_clients[LOAD_CLIENTS];

static inline long long load_answered(void) { return __atomic_load_n(&load->answered, __ATOMIC_SEQ_CST); }

/* One connection after the other until it is over. */
static inline void load_client(void) {
    while (!__atomic_load_n(&load->over, __ATOMIC_SEQ_CST)) {
        char text[96];
        int fd = try_connect4(load->port), n = fd < 0 ? fd : receive_all(fd, text, sizeof text);
        if (fd >= 0) close(fd);
        if (n <= 0) __atomic_store_n(&load->error, -n, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(n > 0 ? &load->answered : &load->failed, 1, __ATOMIC_SEQ_CST);
    }
    _exit(0);
}

static inline void load_begin(int port) {
    load = (load_t *)mmap(NULL, sizeof *load, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(load != MAP_FAILED);
    load->port = port;
    for (int i = 0; i < LOAD_CLIENTS; i++) {
        load_clients[i] = SYS(fork());
        if (load_clients[i] == 0) load_client();
    }
}

/* So many more were answered from here on. */
static inline void load_await(int more) {
    long long before = load_answered();
    WAIT_UNTIL(load_answered() >= before + more, 10000);
}

static inline void load_end(void) {
    __atomic_store_n(&load->over, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < LOAD_CLIENTS; i++) CHECK_EQ(wait_status(load_clients[i]), 0);
    CHECK(load->answered > 0);
    if (load->failed > 0)
        check_fail(__FILE__, __LINE__, "%lld of %lld failed, the last with %s", load->failed,
                   load->answered + load->failed, load->error != 0 ? strerror(load->error) : "an end without an answer");
    munmap(load, sizeof *load);
}

#endif
