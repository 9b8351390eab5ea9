/* The library as a worker that hands a connection back, under a primary made by hand. */
#include "primary_by_hand.h"

static void give(void) {
    char letter;
    check_ignore_descriptors = 1;
    int listener = OK(cl_listen("127.0.0.1:0", 0)), first = OK(cl_accept(listener, NULL, NULL));
    int second = OK(cl_accept(listener, NULL, NULL));
    CHECK_EQ(cl_hand_back(listener, first), -EOPNOTSUPP); /* nobody has asked it to leave */
    OK(cl_send("has both", 8));
    CHECK_EQ(cl_accept(listener, NULL, NULL), -ESHUTDOWN);
    OK(cl_hand_back(listener, first));
    CHECK_EQ(fcntl(first, F_GETFD), -1);
    /* What says so stays where it is. */
    CHECK_EQ(cl_receive(&letter, 1, 0), -ESHUTDOWN);
    OK(cl_send("gave one", 8));
    /* The primary says when it has closed its end. */
    while (cl_receive(&letter, 1, 0) != 1) nap(1);
    CHECK_EQ(cl_hand_back(listener, second), -EOPNOTSUPP);
    send_text(second, "still here\n");
    OK(cl_close(listener));
}

static int connected(int listening, int *client) {
    *client = connect4(system_port(listening));
    return SYS(accept4(listening, NULL, NULL, SOCK_CLOEXEC));
}

static void one_is_handed_back(void) {
    hand_t self = start_worker("_give", 1);
    int listening = plain_listener(0), clients[2], connections[2], mailbox[2], returns[2];
    char text[32];
    expect_online(&self);
    const frame_t *frame = receive_frame(self.channel, 5000);
    CHECK_EQ(frame->type, LISTEN);
    unsigned char body[16 + sizeof(struct sockaddr_in)];
    struct sockaddr_in name = address4(system_port(listening)), peer = address4(4712);
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, mailbox));
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, returns));
    memset(body, 0, sizeof body);
    put_u32(body + 4, 31);
    put_u32(body + 8, 1);
    put_u32(body + 12, 1);
    memcpy(body + 16, &name, sizeof name);
    CHECK_EQ(send_frame(self.grants, GRANT, frame->number, body, sizeof body, &mailbox[1], 1), 0);
    for (int i = 0; i < 2; i++) {
        connections[i] = connected(listening, &clients[i]);
        CHECK_EQ(send_frame(mailbox[0], CONNECTION, 0, &peer, sizeof peer, &connections[i], 1), 0);
        close(connections[i]);
    }
    (void)expect_frame(self.channel, MESSAGE, 8);
    CHECK_EQ(send_frame(self.grants, RETURNS, 0, NULL, 0, &returns[1], 1), 0);
    close(returns[1]);
    CHECK_EQ(send_frame(mailbox[0], STOP, 0, NULL, 0, NULL, 0), 0);
    CHECK_EQ(send_frame(self.grants, DISCONNECT, 0, NULL, 0, NULL, 0), 0);
    CHECK_EQ(send_frame(self.channel, DISCONNECT, 0, NULL, 0, NULL, 0), 0);
    (void)expect_frame(self.channel, MESSAGE, 8);
    frame = expect_frame(returns[0], HANDBACK, 4);
    CHECK_EQ(get_u32(frame->body), 31);
    CHECK_EQ(frame->fd_count, 1);
    int back = frame->fds[0];
    close(returns[0]);
    CHECK_EQ(send_frame(self.channel, MESSAGE, 0, "x", 1, NULL, 0), 0);
    /* It is the first client's, and open. */
    send_text(clients[0], "x");
    CHECK_EQ(recv(back, text, sizeof text, 0), 1);
    close(back);
    CHECK_EQ(recv(clients[0], text, sizeof text, 0), 0);
    CHECK(receive_line(clients[1], text, sizeof text) > 0);
    (void)expect_frame(self.channel, CLOSE, 4);
    end_worker(&self);
    int all[] = {clients[0], clients[1], mailbox[0], mailbox[1], listening};
    for (int i = 0; i < (int)(sizeof all / sizeof all[0]); i++) close(all[i]);
}

static const check_case_t cases[] = {
    {"one_is_handed_back", one_is_handed_back},
    {"_give", give},
};
CHECK_MAIN(cases)
