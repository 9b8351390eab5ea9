/* Workers that run as the user nobody, and workers that speak the protocol by hand. */
#ifndef NOBODY_H
#define NOBODY_H

#include "frame.h"
#include "primary.h"
#include <grp.h>
#include <pwd.h>

extern char **environ;

static inline void need_nobody(void) {
    if (under_valgrind()) check_skip("valgrind's own files are closed to the other user");
    if (geteuid() != 0) check_skip("only root can give another user");
    if (getpwnam("nobody") == NULL) check_skip("there is no user nobody here");
}

/* Starts a copy of this program as nobody: the program's own folder may be closed to that user. The worker's argv[1] is the role. */
static inline int spawn_as_nobody(const char *role) {
    static char copy[PATH_MAX], bytes[65536], name[64];
    char *argv[] = {copy, name, NULL};
    cl_spawn_options_t options;
    snprintf(name, sizeof name, "%s", role);
    snprintf(copy, sizeof copy, "%s", case_path("program"));
    if (access(copy, F_OK) != 0) {
        int from = SYS(open(check_self(), O_RDONLY | O_CLOEXEC)), to = SYS(open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
        for (ssize_t n; (n = read(from, bytes, sizeof bytes)) > 0;) CHECK_EQ(write(to, bytes, (size_t)n), n);
        close(from);
        close(to);
    }
    ZERO(options);
    options.size = sizeof options;
    options.file = copy;
    options.argv = argv;
    options.envp = environ;
    options.user = "nobody";
    return OK(cl_spawn(&options));
}

/* The primary that lets its workers listen on these alone. */
static inline void allow_only(const char *const *rules) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.listen_allow = rules;
    OK(cl_setup_primary(&settings));
}

/* -- The worker's side of the protocol, by hand -------------------------------------------------------------------- */

static int channel, grants;

static inline void greet(void) {
    unsigned char body[16];
    channel = atoi(getenv("CL_CHANNEL_FD"));
    const frame_t *frame = expect_frame(channel, HELLO, 32);
    check_ignore_descriptors = 1;
    grants = frame->fds[0];
    put_u32(body, 1);
    put_u32(body + 4, (unsigned)getpid());
    memcpy(body + 8, frame->body + 24, 8);
    CHECK_EQ(send_frame(channel, ONLINE, 0, body, sizeof body, NULL, 0), 0);
}

static unsigned granted_listener;

/* Asks for an address: 0 or the code of the refusal. What came with a grant is closed again; the address stays open. */
static inline int ask_to_listen(unsigned number, const char *address, unsigned flags) {
    unsigned char body[PATH_MAX + 32];
    put_u32(body, flags);
    put_u32(body + 4, 16);
    put_u32(body + 8, 0);
    memcpy(body + 12, address, strlen(address));
    CHECK_EQ(send_frame(channel, LISTEN, number, body, 12 + strlen(address), NULL, 0), 0);
    const frame_t *frame = expect_frame(grants, GRANT, (size_t)-1);
    CHECK_EQ(frame->number, number);
    for (int i = 0; i < frame->fd_count; i++) close(frame->fds[i]);
    granted_listener = get_u32(frame->body + 4);
    return (int)get_u32(frame->body);
}

static inline void close_granted(void) {
    unsigned char body[4];
    put_u32(body, granted_listener);
    CHECK_EQ(send_frame(channel, CLOSE, 0, body, sizeof body, NULL, 0), 0);
}

#endif
